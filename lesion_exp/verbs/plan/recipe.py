"""The rules for the keys of a training: augmentation, sampler, loss, optimizer, schedule, regularisation.

Each names its evidence, as `rules.py` says.
"""

from __future__ import annotations

import math
from typing import Final

from lesion_exp.verbs.plan.candidate import Candidate, Choice
from lesion_exp.verbs.plan.facts import DataFacts, Machine

FEW_IMAGES: Final = 1000
"""Fewer images get folds and stronger regularisation. Of PH2's 40 melanomas 37 recognised have a 95% interval of 0.80
to 0.97, and a single test part would have 6 of them; five folds test each of the 200 images once. The limit of 1,000
is untested."""
SMALLEST_IMBALANCE: Final = 2.0
"""Images of the largest class for one of the smallest from which on rare classes are drawn more often. Untested; on
HAM10000, with 58, that is part of all measured recipes."""
WITH_TAU: Final = "together with loss.tau"
"""EfficientNet-Lite0, 20 epochs at 160 pixels, `sampler.power=0.75`: balanced accuracy 0.718 and macro AUROC 0.955 with
cross-entropy, 0.767 after its logits were adjusted with tau 0.4; 0.788 and 0.950 trained with the adjusted loss and
metadata (`conf/experiment/ham10000_finetuned.yaml`), whose AUROC is 0.960 at the class shares of the data."""
EPOCHS_WITHOUT_MIXUP: Final = 10
"""A network fine-tuned without mixup overfits heavily after 10 epochs: the validation loss rises."""
STEPS_FOR_SLOW_AVERAGE: Final = 1500
"""Steps from which on `trainer.ema_decay` is 0.999, as on HAM10000; for fewer it is 0.99, as for PH2."""
RECIPE: Final = "of the measured recipe"
"""That with which EfficientNet-Lite0 was fine-tuned (`conf/experiment/ham10000_finetuned.yaml`, or at 128 pixels), or
ResNet-18 trained at 96 (`ham10000_cpu.yaml`); learning rate, dropout, weights, sampler and loss differ between them."""
LITTLE_MEMORY: Final = 4 * 2**30
"""Bytes of free memory below which batches are smaller. Untested."""


def settings(facts: DataFacts, machine: Machine, candidate: Candidate, epochs: int) -> tuple[Choice, ...]:
    """All keys by which `candidate` is trained for `epochs`, with their reasons."""
    if candidate.is_probe:
        return (*_probe(candidate, epochs, facts), *_one_device(machine))
    few = facts.images < FEW_IMAGES
    fine_tuned = candidate.is_fine_tuned
    adjusts = fine_tuned and not few and facts.imbalance >= SMALLEST_IMBALANCE
    batch = batch_size(facts, machine)
    lr = (7e-4 if fine_tuned else 2e-3) * math.sqrt(batch / 64)
    steps = math.ceil(facts.parts["train"] / batch) * epochs
    return (
        Choice("augmentation", "heavy" if few else "standard",
               f"{facts.images:,} images; " + ("the recipe for small data sets (untested)" if few else RECIPE), True),
        *_sampler(facts, adjusts),
        Choice("backbone", candidate.backbone, _why_network(candidate), True),
        *_loss(adjusts),
        Choice("optimizer", "adamw", RECIPE, True),
        Choice("scheduler", "one_cycle", RECIPE, True),
        Choice("image_size", candidate.image_size, f"pixels; the images have {facts.width} x {facts.height}"),
        Choice("augmentation.fit", "squash", "all of the image is seen: lesions reach its borders"),
        *(() if few else (
            Choice("augmentation.transforms.crop.scale", [0.45, 1.0], RECIPE),
            Choice("augmentation.transforms.crop.ratio", [0.85, 1.18], RECIPE),
            Choice("augmentation.transforms.rotate.p", 0.8, RECIPE),
        )),
        *_mixup(fine_tuned, epochs, few),
        Choice("backbone.weights", candidate.weights,
               "fine-tuning beats training from scratch" if fine_tuned else "the extra weights is not installed"),
        *(() if candidate.tune == "full" else (
            Choice("backbone.tune", candidate.tune, "2.5 times as fast as training all layers (score untested)"),)),
        *((Choice("backbone.dropout", 0.3, RECIPE),) if fine_tuned else ()),
        *((Choice("loss.label_smoothing", 0.1, "few images (untested)"),) if few else ()),
        Choice("loader.batch_size", batch, _why_batch(facts, machine)),
        Choice("optimizer.lr", float(f"{lr:.2g}"), RECIPE + ("" if batch == 64 else ", by the root of the batch size")),
        Choice("optimizer.weight_decay", 0.05, RECIPE),
        Choice("scheduler.warmup_fraction", 0.1, RECIPE),
        Choice("scheduler.start_lr_ratio", 0.1, RECIPE),
        Choice("scheduler.min_lr_ratio", 1e-3, RECIPE),
        Choice("trainer.max_epochs", epochs, f"{steps:,} steps"),
        _moving_average(steps),
        Choice("trainer.gradient_clip_val", 5.0, RECIPE),
        *_one_device(machine),
    )  # fmt: skip


def _moving_average(steps: int) -> Choice:
    if steps >= STEPS_FOR_SLOW_AVERAGE:
        return Choice("trainer.ema_decay", 0.999, RECIPE)
    return Choice("trainer.ema_decay", 0.99, f"as in the recipe for PH2; {steps:,} steps are few for 0.999")


def batch_size(facts: DataFacts, machine: Machine) -> int:
    """Images a step: 64 as in the measured recipes, 16 for few images as in that for PH2, which gave 0.866 balanced
    accuracy, 32 with little memory (untested)."""
    if facts.images < FEW_IMAGES:
        return 16
    return 64 if machine.memory >= LITTLE_MEMORY else 32


def _why_batch(facts: DataFacts, machine: Machine) -> str:
    size = batch_size(facts, machine)
    return {16: "as in the recipe for PH2, for enough steps an epoch", 32: "less than 4 GiB of memory are free"}.get(
        size, "as in the measured recipes"
    )


def _why_network(candidate: Candidate) -> str:
    if candidate.is_fine_tuned:
        return "ImageNet weights are installed; balanced accuracy 0.71 to 0.79 on HAM10000"
    if candidate.backbone == "resnet18":
        return "from scratch at 96 pixels 0.621 balanced accuracy on HAM10000"
    return "a small network for a small budget" if candidate.backbone == "small_cnn" else "a larger network (untested)"


def _sampler(facts: DataFacts, adjusts: bool) -> tuple[Choice, ...]:
    differ = f"the largest class has {facts.imbalance:.1f} times as many training images as the smallest"
    if facts.imbalance < SMALLEST_IMBALANCE:
        return (Choice("sampler", "shuffle", differ, True),)
    power, why = (0.75, WITH_TAU) if adjusts else (0.5, "classes by the square root of their size")
    return (Choice("sampler", "weighted", differ, True), Choice("sampler.power", power, f"{why}, {RECIPE}"))


def _loss(adjusts: bool) -> tuple[Choice, ...]:
    if not adjusts:
        return (Choice("loss", "cross_entropy", "rare classes are drawn more often instead of weighted", True),)
    return (
        Choice("loss", "logit_adjusted", "for balanced accuracy: 0.77 instead of 0.72 on HAM10000", True),
        Choice("loss.tau", 0.4, f"less than 1, because rare classes are also drawn more often, {RECIPE}"),
    )


def _mixup(fine_tuned: bool, epochs: int, few: bool) -> tuple[Choice, ...]:
    if not fine_tuned or (epochs <= EPOCHS_WITHOUT_MIXUP and not few):
        return ()
    why = "without mixup, fine-tuning overfits after about 10 epochs"
    return (
        Choice("augmentation.mix.mixup_alpha", 0.4, f"{why}; winners take 0.8, half of it is untested"),
        Choice("augmentation.mix.probability", 0.5, "half of the batches stay as they are (untested)"),
    )


def _probe(candidate: Candidate, epochs: int, facts: DataFacts) -> tuple[Choice, ...]:
    preset = "as in experiment=probe"
    return (
        Choice("augmentation", "none", "features are computed once", True),
        Choice("sampler", "shuffle", preset, True),
        Choice("backbone", candidate.backbone, "a probe of Lite2 gave 0.634 balanced accuracy on HAM10000", True),
        Choice("loss", "cross_entropy", preset, True),
        Choice("optimizer", "logistic_path", "the head is solved for exactly", True),
        Choice("scheduler", "constant", preset, True),
        Choice("image_size", candidate.image_size, f"pixels; the images have {facts.width} x {facts.height}"),
        Choice("augmentation.fit", "squash", "all of the image is seen"),
        Choice("backbone.weights", candidate.weights, "nothing but the head is trained"),
        Choice("backbone.tune", "head", "the budget is too small to train more"),
        Choice("loss.class_weights", "balanced", "the balanced accuracy decides on the strength of the penalty"),
        Choice("trainer.max_epochs", epochs, "strengths on the path"),
        Choice("trainer.early_stopping.patience", 3, "strengths without improvement on validation"),
    )


def _one_device(machine: Machine) -> tuple[Choice, ...]:
    if machine.num_gpus < 2:
        return ()
    return (Choice("trainer.devices", 1, f"speeds were measured on one of {machine.num_gpus} GPUs"),)

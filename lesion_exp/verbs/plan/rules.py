"""The rules of `plan`: which network, for how long, in how many folds or seeds. Pure functions.

Each rule names its evidence. Measurements without another source were made on HAM10000 (200 x 150 pixels, the default
grouped split, its test part of 1,503 images) on two threads in bfloat16; scores are balanced accuracy and macro AUROC.
"Untested" marks what nothing in this repository supports yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lesion_exp.errors import ConfigError
from lesion_exp.model.inputs import STORE_HEADROOM
from lesion_exp.verbs.plan.candidate import Candidate, Choice, Speed
from lesion_exp.verbs.plan.facts import DataFacts, Situation
from lesion_exp.verbs.plan.recipe import FEW_IMAGES, settings
from lesion_exp.verbs.plan.timing import MOST_FOR_TTA, SHARE_OF_BUDGET, epochs_in_budget, times, uses_flips

MOST_FOLDS: Final = 5
"""As published for lesion-grouped cross-validation on ISIC 2019."""
LEAST_FOLDS: Final = 3
MOST_SEEDS: Final = 5
"""Members of an ensemble. Winners of the ISIC challenges average the probabilities of several networks. The mean of
three EfficientNet-Lite0 (8 epochs at 128 pixels) had 0.754 and 0.955, one of them 0.737 and 0.949 on average, which
these images do not distinguish; larger numbers are untested."""
SHORT_BUDGET: Final = 1200.0
"""Seconds below which images of more than 160 pixels are not tried on a CPU: 20 minutes were 15 epochs at 128."""
PROBE_SIZE: Final = 224
"""Pixels of a probe's images, as in `experiment=probe`."""
MANY_IMAGES: Final = 600
"""Images from which on a refused budget is answered with fewer images, too."""
METADATA_MISSING: Final = 0.2
"""Largest share of images without age, sex or site with which `backbone.metadata` is offered. Untested."""


@dataclass(frozen=True)
class Wanted:
    """Numbers of epochs: the number that a training should have, a fair number, the fewest and the most to use."""

    good: int
    fair: int
    least: int
    most: int


@dataclass(frozen=True)
class Decision:
    """What is trained: one network, or several of the same kind."""

    candidate: Candidate
    choices: tuple[Choice, ...]
    epochs: int
    folds: int
    """1 for a single split."""
    seeds: int
    seconds: Mapping[str, float]
    """The expected time of each piece of work."""
    offers: tuple[str, ...]
    """Settings that this data set makes possible and that no rule chooses, with the reason."""

    @property
    def total_seconds(self) -> float:
        """The expected time of the whole training."""
        return sum(self.seconds.values())


def store_side(on_gpu: bool, has_weights: bool, budget: float) -> int:
    """Returns the shorter side in pixels of the images in the store, enough for every network that may be measured."""
    side = round(STORE_HEADROOM * _largest_size(on_gpu, has_weights, budget))
    return max(side, PROBE_SIZE) if has_weights else side


def _largest_size(on_gpu: bool, has_weights: bool, budget: float) -> int:
    """The largest image size in pixels of a network that is trained within `budget` seconds."""
    if on_gpu:
        return 260
    if not has_weights:
        return 128
    return 160 if budget < SHORT_BUDGET else 224


def ladder(situation: Situation) -> tuple[Candidate, ...]:
    """Returns the networks whose weights are all trained, from the fastest to the slowest.

    ImageNet weights are worth more than any other choice: EfficientNet-Lite0 at 128 pixels gave 0.712 to 0.734 and
    0.948 to 0.958 after 20 minutes, ResNet-18 from scratch at 96 pixels 0.621 and 0.930 after 30. EfficientNet-Lite0
    trained at 180 images/s at 128 pixels and at 123 at 160, ResNet-18 at 235 at 96 pixels. What larger sizes and
    networks add is untested here; on DermaMNIST 224 pixels from scratch are little better than 28 (AUROC 0.900 and
    0.888). Images are not enlarged beyond their longer side, except to the smallest size.
    """
    on_gpu, facts = situation.machine.on_gpu, situation.facts
    if situation.has_weights:
        sizes = (160, 224) if on_gpu else (128, 160, 192, 224)
        found = [Candidate("efficientnet_lite0", size, "imagenet") for size in sizes]
        found += [Candidate("efficientnet_lite2", 260, "imagenet")] if on_gpu else []
    elif on_gpu:
        found = [Candidate("resnet18", 128), Candidate("resnet18", 224), Candidate("resnet50", 224)]
    else:
        found = [Candidate("resnet18", 96), Candidate("resnet18", 128)]
    most = min(_largest_size(on_gpu, situation.has_weights, situation.budget), max(facts.width, facts.height))
    return (found[0], *(each for each in found[1:] if each.image_size <= most))


def fallbacks(situation: Situation) -> tuple[Candidate, ...]:
    """Returns what is trained where the budget is too small for the first network of the ladder, the best first.

    With the last four groups of layers alone EfficientNet-Lite0 trained at 309 images/s at 160 pixels, where all layers
    gave 123; its score is untested. A probe of EfficientNet-Lite2 gave 0.634 and 0.900 within two minutes.
    """
    if not situation.has_weights:
        return (Candidate("small_cnn", 64),)
    probes = (
        Candidate("efficientnet_lite2", PROBE_SIZE, "imagenet", "head"),
        Candidate("efficientnet_lite0", 128, "imagenet", "head"),
    )
    partly = Candidate("efficientnet_lite0", 128, "imagenet", "last:4")
    return probes if situation.machine.on_gpu else (partly, *probes)


def wanted_epochs(facts: DataFacts, candidate: Candidate) -> Wanted:
    """Returns the numbers of epochs for `candidate`.

    Measured were 15 epochs of fine-tuning and 30 from scratch on 7,000 images. Fewer images get more epochs, up to four
    times as many, and none more than twice those that it should have, since fine-tuning overfits. Untested beyond that.
    """
    if candidate.is_probe:
        return Wanted(10, 10, 10, 10)
    usual = 15 if candidate.is_fine_tuned else 30
    good = min(max(usual, round(usual * 7000 / facts.parts["train"])), 4 * usual)
    return Wanted(good, math.ceil(good / 2), math.ceil(good / 4), 2 * good)


def folds_for(facts: DataFacts) -> int:
    """Returns the number of folds: 1 where there are many images, where the split was chosen, or for tiny classes.

    Every part of every fold needs a group of every class.
    """
    smallest = min(facts.groups.values())
    keeps_split = facts.is_split_chosen or facts.split != "grouped"
    if facts.images >= FEW_IMAGES or keeps_split or smallest <= LEAST_FOLDS:
        return 1
    return min(MOST_FOLDS, smallest - 1)


def next_measured(
    situation: Situation, speeds: Sequence[Speed], failed: Sequence[Candidate] = ()
) -> Candidate | None:  # fmt: skip
    """Returns the candidate to measure next, after those in `speeds` and `failed`; None if the decision needs no other.

    Larger networks are measured while the one before has time for all the epochs that it should have, fallbacks while
    nothing has time for a fair number.
    """
    known = {speed.candidate: speed for speed in speeds}
    for candidate in ladder(situation):
        if candidate not in known and candidate not in failed:
            return candidate
        if candidate in failed or not _fits(situation, known[candidate], "good"):
            break
    for candidate in fallbacks(situation):
        if any(_fits(situation, speed, "fair") for speed in speeds):
            return None
        if candidate not in known and candidate not in failed:
            return candidate
    return None


def decide(situation: Situation, speeds: Sequence[Speed]) -> Decision:
    """Returns the training that makes the most of the budget, of the candidates that were measured.

    The largest network that has time for all its epochs is chosen, else the fastest that has time for a fair number,
    else what trains less of a network, and at last the fewest epochs that are worth a training. Folds come first where
    there are few images.

    Raises:
        ConfigError: the budget is too small for anything; the message says what would be enough.
    """
    whole = [speed for speed in speeds if speed.candidate.tune == "full"]
    partly = [speed for speed in speeds if speed.candidate.tune != "full" and not speed.candidate.is_probe]
    probes = [speed for speed in speeds if speed.candidate.is_probe]
    orders = {"good": whole[::-1], "fair": [*whole, *partly, *probes], "least": [*whole, *partly]}
    for folds in dict.fromkeys((folds_for(situation.facts), 1)):
        for rung, order in orders.items():
            for speed in order if folds == 1 or rung != "least" else ():
                if _fits(situation, speed, rung, folds):
                    return _decision(situation, speed, folds)
    raise ConfigError(_too_small(situation, speeds))


def _fits(situation: Situation, speed: Speed, rung: str, folds: int | None = None) -> bool:
    """Whether `speed` has time for the epochs of the `rung`, one of the fields of `Wanted`."""
    runs = folds_for(situation.facts) if folds is None else folds
    least: int = getattr(wanted_epochs(situation.facts, speed.candidate), rung)
    return epochs_in_budget(situation, speed, runs) >= least


def _decision(situation: Situation, speed: Speed, folds: int) -> Decision:
    facts, candidate = situation.facts, speed.candidate
    most = wanted_epochs(facts, candidate).most
    seeds = 1
    if folds == 1 and not candidate.is_probe:
        seeds = next((n for n in range(MOST_SEEDS, 1, -1) if epochs_in_budget(situation, speed, n) >= most), 1)
    runs = folds * seeds
    epochs = int(min(epochs_in_budget(situation, speed, runs), most))
    flips = uses_flips(situation, speed, runs)
    choices = (
        *settings(facts, situation.machine, candidate, epochs),
        Choice("evaluation.tta", "flips8" if flips else "none", _why_flips(flips, candidate)),
        Choice("evaluation.calibration", "temperature", "one parameter, fitted on validation and reported apart"),
        *_members(facts, folds, seeds),
    )
    return Decision(
        candidate, choices, epochs, folds, seeds, times(situation, speed, epochs, runs), _offers(facts, folds)
    )


def _why_flips(flips: bool, candidate: Candidate) -> str:
    if flips:
        return "the mean over 8 flips and quarter turns, as winners predict"
    if candidate.is_probe:
        return "features of flipped images are not computed"
    return f"8 flips would take more than {MOST_FOR_TTA:.0%} of the budget"


def _members(facts: DataFacts, folds: int, seeds: int) -> tuple[Choice, ...]:
    """The split and the search space of folds, or of seeds."""
    if folds > 1:
        return (
            Choice("split", "kfold", f"{facts.images:,} images: each is tested once, in one of {folds} folds", True),
            Choice("split.num_folds", folds),
            Choice("test", True, "each fold is tested once"),
            Choice("search.space.split.fold", list(range(folds)), "cells of a sweep, which are evaluated as one"),
        )
    if seeds > 1:
        return (
            Choice("test", True, "the members are tested on the same images"),
            Choice("search.space.seed", list(range(seeds)), "members of an ensemble: more epochs would overfit"),
        )
    return ()


def _offers(facts: DataFacts, folds: int) -> tuple[str, ...]:
    found = []
    if folds < folds_for(facts):
        few = f"a test part of {facts.parts['test']} images says little"
        found.append(f"split=kfold: {few}; with more hours the plan has folds")
    if facts.masks == 1:
        found.append(
            "dataset.mask=crop: all images have masks (8 epochs from scratch on HAM10000 had a balanced accuracy of "
            "0.616 with it and 0.572 without, and on PH2 an AUROC of 0.858 and 0.746; one run each)"
        )
    complete = [name for name, share in facts.missing.items() if share <= METADATA_MISSING]
    if complete:
        found.append(
            f"backbone.metadata=concat: {', '.join(complete)} known for most images (on HAM10000 a run had a balanced "
            f"accuracy of 0.788 with it, and 0.767 without; from scratch 0.622 and 0.572; one run each)"
        )
    if len(facts.sources) > 1:
        found.append(f"sampler=by_source: the images are from {len(facts.sources)} sources (untested)")
    return tuple(found)


def _too_small(situation: Situation, speeds: Sequence[Speed]) -> str:
    facts, with_flips = situation.facts, replace(situation, budget=math.inf)
    least = min(
        sum(times(with_flips, speed, wanted_epochs(facts, speed.candidate).least, 1).values()) for speed in speeds
    )
    fewer = ", or use fewer images with dataset.limit=300" if facts.images >= MANY_IMAGES else ""
    hours = math.ceil(least / SHARE_OF_BUDGET / 36) / 100
    return (
        f"expected hours= of at least {hours:g} for {facts.images:,} images of {facts.dataset} on this machine, got "
        f"{situation.budget / 3600:g}; set hours={hours:g}{fewer}"
    )

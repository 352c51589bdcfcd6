"""The learning rate at every step of a real training, beside torch's own schedulers stepped by hand."""

import math
import shutil

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from lesion_exp.config.compose import compose
from lesion_exp.task import training_length
from lesion_exp.training.build import build
from lesion_exp.training.checkpoint import LAST, ResumePoints
from lesion_exp.training.data import load_data, split_data
from tests.tiny import TINY

LR = 0.01
NUM_BATCHES = 5
"""82 training images in whole batches of 16."""
SHORT = ("loader.batch_size=16", "optimizer=sgd", f"optimizer.lr={LR}")


class Rates(Callback):
    """Remembers the learning rate of every optimizer step, and the validation loss after every validation."""

    def __init__(self):
        self.by_step, self.losses = {}, []

    def on_train_batch_start(self, trainer, *_):
        self.by_step[trainer.global_step] = max(group["lr"] for group in trainer.optimizers[0].param_groups)

    def on_validation_end(self, trainer, *_):
        self.losses.append(float(trainer.callback_metrics["val/loss"]))

    @property
    def values(self):
        assert list(self.by_step) == list(range(min(self.by_step), max(self.by_step) + 1))
        return list(self.by_step.values())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains with overrides and the arguments of a Trainer; returns the rates of all steps and the Trainer."""
    root = tmp_path_factory.mktemp("schedules")
    plain = compose(TINY, root=root).config
    split = split_data(plain, load_data(plain))

    def train(*overrides, checkpoint=None, more=(), **settings):
        made = build(compose([*TINY, *SHORT, *overrides], root=root).config, split)
        rates = Rates()
        quiet = {
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        }
        trainer = pl.Trainer(
            accelerator="cpu", default_root_dir=root, use_distributed_sampler=False, enable_checkpointing=bool(more),
            callbacks=[rates, *more], **quiet, **settings,
        )  # fmt: skip
        trainer.fit(made.classifier, datamodule=made.datamodule, ckpt_path=checkpoint, weights_only=True)
        return rates, trainer

    return train


def optimizer():
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)


def expected(made, num_steps, *, steps_between=1):
    """The rates of `num_steps` steps where torch's scheduler is stepped after every `steps_between` of them."""
    scheduler, rates = made, []
    for step in range(num_steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        if (step + 1) % steps_between == 0:
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("settings", "steps_per_epoch", "num_steps"),
    [
        ({"max_epochs": 4}, 5, 20),
        ({"max_epochs": 4, "accumulate_grad_batches": 2}, 3, 12),  # the fifth batch is a step of its own
        ({"max_epochs": 20, "max_steps": 17}, 5, 17),
        ({"max_epochs": -1, "max_steps": 17}, 5, 17),
        ({"max_epochs": 20, "max_steps": 8, "accumulate_grad_batches": 2}, 3, 8),
        ({"max_epochs": 20, "max_steps": 7, "limit_train_batches": 2}, 2, 7),
        ({"max_epochs": 3, "max_time": "00:01:00:00"}, 5, 15),
        ({"max_epochs": 4, "check_val_every_n_epoch": 2}, 5, 20),
    ],
)
def test_step_drops_after_true_epochs(trained, settings, steps_per_epoch, num_steps):
    rates, _ = trained("scheduler=step", "scheduler.drop_epochs=1", "scheduler.gamma=0.5", **settings)
    reference = expected(StepLR(optimizer(), 1, gamma=0.5), num_steps, steps_between=steps_per_epoch)
    assert rates.values == pytest.approx(reference)


@pytest.mark.parametrize(
    ("settings", "steps_per_epoch", "num_steps"),
    [
        ({"max_epochs": 4}, 5, 20),
        ({"max_epochs": 20, "max_steps": 17}, 5, 17),
        ({"max_epochs": -1, "max_steps": 17}, 5, 17),
        ({"max_epochs": 4, "accumulate_grad_batches": 2}, 3, 12),
    ],
)
def test_cosine_warms_up_for_a_true_epoch_and_ends_with_the_training(trained, settings, steps_per_epoch, num_steps):
    rates, _ = trained("scheduler=cosine", "scheduler.warmup_epochs=1", "scheduler.min_lr_ratio=0.1", **settings)
    used = optimizer()
    warm_up = LinearLR(used, 1 / (steps_per_epoch + 1), 1.0, total_iters=steps_per_epoch)
    fall = CosineAnnealingLR(used, num_steps - steps_per_epoch, eta_min=0.1 * LR)
    reference = expected(SequentialLR(used, [warm_up, fall], [steps_per_epoch]), num_steps)
    assert rates.values == pytest.approx(reference)


@pytest.mark.parametrize("settings", [{"max_epochs": 4}, {"max_epochs": 20, "max_steps": 17}])
def test_one_cycle_ends_with_the_training(trained, settings):
    rates, _ = trained("scheduler=one_cycle", **settings)
    num_steps = settings.get("max_steps", 20)
    reference = OneCycleLR(optimizer(), LR, total_steps=num_steps, div_factor=25, final_div_factor=1e4)
    assert rates.values == pytest.approx([*expected(reference, num_steps - 1), rates.values[-1]])
    assert rates.values[-1] == pytest.approx(4e-6 * LR)


def test_a_constant_rate_needs_no_end(trained):
    rates, _ = trained(
        "scheduler=constant", "scheduler.warmup_epochs=1", "trainer.max_epochs=-1", "+trainer.max_time=00:01:00:00",
        max_epochs=-1, max_steps=12,
    )  # fmt: skip
    reference = ConstantLR(optimizer(), factor=1.0)
    assert rates.values[5:] == pytest.approx(expected(reference, 7))


@pytest.mark.parametrize("every", [1, 2])
def test_plateau_looks_at_every_validation_once(trained, every):
    rates, _ = trained(
        "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.5", max_epochs=6,
        check_val_every_n_epoch=every,
    )  # fmt: skip
    assert len(rates.losses) == 6 // every
    reference, wanted = ReduceLROnPlateau(optimizer(), factor=0.5, patience=0, threshold=0.5), []
    for loss in rates.losses:
        wanted += [reference.optimizer.param_groups[0]["lr"]] * NUM_BATCHES * every
        reference.step(loss)
    assert rates.values == pytest.approx(wanted)
    assert wanted[-1] < LR


def test_plateau_looks_at_each_of_several_validations_of_an_epoch(trained):
    rates, _ = trained(
        "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.5", max_epochs=3, val_check_interval=2
    )
    reference, wanted = ReduceLROnPlateau(optimizer(), factor=0.5, patience=0, threshold=0.5), []
    for loss, num_steps in zip(rates.losses, [2, 2, 3, 2, 3, 2], strict=True):
        wanted += [reference.optimizer.param_groups[0]["lr"]] * num_steps
        reference.step(loss)
    wanted.append(reference.optimizer.param_groups[0]["lr"])
    assert rates.values == pytest.approx(wanted)
    assert wanted[-1] < LR / 2**3


@pytest.mark.parametrize("scheduler", ["step", "cosine", "one_cycle", "plateau"])
def test_a_resumed_training_goes_on_with_the_same_rates(trained, scheduler, tmp_path):
    settings = {"max_epochs": 4, "accumulate_grad_batches": 2}
    options = (f"scheduler={scheduler}", *(("scheduler.drop_epochs=1",) if scheduler == "step" else ()))

    class KeepAfterTwoEpochs(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.current_epoch == 2 and not (tmp_path / "two.ckpt").exists():
                shutil.copyfile(tmp_path / LAST, tmp_path / "two.ckpt")

    whole, trainer = trained(*options, more=[ResumePoints(tmp_path, None, None), KeepAfterTwoEpochs()], **settings)
    again = [ResumePoints(tmp_path / "again", None, None)]
    rest, resumed = trained(*options, checkpoint=tmp_path / "two.ckpt", more=again, **settings)
    assert rest.values == pytest.approx(whole.values[6:])
    assert resumed.global_step == trainer.global_step == 12


def test_the_length_is_the_one_that_lightning_trains(trained):
    for settings in ({"max_epochs": 3}, {"max_epochs": 9, "max_steps": 7, "accumulate_grad_batches": 2}):
        _, trainer = trained("scheduler=constant", **settings)
        length = training_length(trainer)
        assert length.total_steps == trainer.global_step == trainer.estimated_stepping_batches
        assert length.total_batches == trainer.fit_loop.epoch_loop.total_batch_idx + 1
        assert length.num_epochs == math.ceil(trainer.global_step / length.steps_per_epoch)

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from lesion_exp.errors import ConfigError
from lesion_exp.scheduler.constant import constant
from lesion_exp.scheduler.cosine import cosine
from lesion_exp.scheduler.one_cycle import one_cycle
from lesion_exp.scheduler.plateau import plateau
from lesion_exp.scheduler.schedule import Schedule
from lesion_exp.scheduler.step import step


def two_groups() -> Optimizer:
    """An optimizer whose second group, the head, learns ten times as fast."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 1.0)]
    return SGD(groups, momentum=0.9)


def run(optimizer: Optimizer, schedule: Schedule, num_steps: int) -> list[float]:
    """The head's learning rate at each step, after checking that the other group's keeps its ratio to it."""
    rates = []
    for _ in range(num_steps):
        low, high = (group["lr"] for group in optimizer.param_groups)
        assert high == pytest.approx(10 * low)
        rates.append(high)
        optimizer.step()
        schedule.scheduler.step()  # type: ignore[call-arg]
    return rates


def curve(
    build: Callable[..., Schedule], num_steps: int = 100, steps_per_epoch: int = 10, **keys: float
) -> list[float]:
    optimizer = two_groups()
    schedule = build(optimizer, total_steps=num_steps, steps_per_epoch=steps_per_epoch, **keys)
    assert (schedule.interval, schedule.monitor) == ("step", None)
    return run(optimizer, schedule, num_steps)


def test_cosine_rises_linearly_then_falls_along_half_a_cosine() -> None:
    rates = curve(cosine, warmup_epochs=2, min_lr_ratio=0.1)
    warmup = [(t + 1) / 21 for t in range(20)]
    fall = [0.1 + 0.9 * (1 + math.cos(math.pi * (t - 20) / 80)) / 2 for t in range(20, 100)]
    assert rates == pytest.approx(warmup + fall)
    assert rates[20] == 1.0


def test_cosine_ends_at_the_smallest_rate_and_stays_there() -> None:
    optimizer = two_groups()
    schedule = cosine(optimizer, total_steps=10, steps_per_epoch=10, warmup_epochs=0, min_lr_ratio=0.1)
    rates = run(optimizer, schedule, 15)
    assert rates[0] == 1.0
    assert rates[10:] == pytest.approx([0.1] * 5)


def test_a_warm_up_of_a_fraction_of_an_epoch() -> None:
    assert curve(cosine, warmup_epochs=0.4)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_warm_up_as_long_as_the_training_is_warned_of_and_cut_off() -> None:
    with pytest.warns(UserWarning, match=r"takes the whole training \(10 steps\)"):
        rates = curve(cosine, num_steps=10, warmup_epochs=2)
    assert rates == pytest.approx([(t + 1) / 21 for t in range(10)])


def test_constant_stays_after_its_warm_up() -> None:
    assert curve(constant) == [1.0] * 100
    assert curve(constant, warmup_epochs=0.4)[:7] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


@pytest.mark.parametrize("total_steps", [float("inf"), -1])
@pytest.mark.parametrize("build", [constant, step])
def test_a_training_without_an_end_needs_no_length(build: Callable[..., Schedule], total_steps: float) -> None:
    optimizer = two_groups()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule = build(optimizer, total_steps=total_steps, steps_per_epoch=2, warmup_epochs=1)
    assert run(optimizer, schedule, 3) == pytest.approx([1 / 3, 2 / 3, 1])


@pytest.mark.parametrize("build", [cosine, one_cycle])
def test_a_training_without_an_end_is_refused_by_those_that_need_one(build: Callable[..., Schedule]) -> None:
    with pytest.raises(ConfigError, match="expected a training with an end"):
        build(two_groups(), total_steps=float("inf"), steps_per_epoch=10)


def test_step_drops_every_few_epochs() -> None:
    rates = curve(step, drop_epochs=3, gamma=0.1)
    assert rates == pytest.approx([0.1 ** (t // 30) for t in range(100)])


def test_step_with_a_warm_up() -> None:
    rates = curve(step, drop_epochs=1, gamma=0.5, warmup_epochs=0.4)
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[9:11] == pytest.approx([1.0, 0.5])


def test_one_cycle_is_torchs_with_the_groups_rates_as_peaks() -> None:
    optimizer, reference = two_groups(), two_groups()
    schedule = one_cycle(optimizer, total_steps=50, steps_per_epoch=10)
    expected = OneCycleLR(reference, max_lr=[0.1, 1.0], total_steps=50, pct_start=0.3, div_factor=25)
    for _ in range(49):
        for ours, theirs in zip(optimizer.param_groups, reference.param_groups, strict=True):
            assert ours["lr"] == pytest.approx(theirs["lr"], rel=1e-2)
            assert ours["momentum"] == pytest.approx(theirs["momentum"])
        for each, scheduler in ((optimizer, schedule.scheduler), (reference, expected)):
            each.step()
            scheduler.step()  # type: ignore[call-arg]


def test_one_cycle_starts_peaks_and_ends_at_the_given_shares() -> None:
    rates = curve(one_cycle, num_steps=100, warmup_fraction=0.2, start_lr_ratio=0.1, min_lr_ratio=0.01)
    assert (rates[0], max(rates), rates[-1]) == pytest.approx((0.1, 1.0, 0.01))
    assert rates.index(max(rates)) == 19  # the last step of the first fifth


@pytest.mark.parametrize(("share", "num_steps"), [(0.1, 10), (0.5, 2), (0.2, 5), (0.05, 20)])
def test_one_cycle_that_rises_for_a_single_step_begins_low_and_falls_from_then_on(share: float, num_steps: int) -> None:
    rates = curve(one_cycle, num_steps=num_steps, warmup_fraction=share)
    assert (rates[0], rates[-1]) == pytest.approx((0.04, 4e-6))
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_one_cycle_moves_the_first_beta_of_adam() -> None:
    optimizer = Adam([nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.9, 0.99))
    schedule = one_cycle(optimizer, total_steps=10, steps_per_epoch=10)
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.99)
    assert schedule.interval == "step"


def test_one_cycle_without_momentum_is_refused() -> None:
    optimizer = torch.optim.Adagrad([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ConfigError, match="momentum or betas"):
        one_cycle(optimizer, total_steps=10, steps_per_epoch=10)


def test_plateau_halves_after_more_than_patience_epochs_without_improvement() -> None:
    optimizer = two_groups()
    schedule = plateau(optimizer, total_steps=100, steps_per_epoch=10)
    assert (schedule.interval, schedule.monitor) == ("epoch", "val/loss")
    rates = []
    for loss in [1.0, 0.5, *[0.6] * 12, 0.4]:
        optimizer.step()
        schedule.scheduler.step(loss)
        rates.append(optimizer.param_groups[1]["lr"])
    assert rates == [1.0] * 7 + [0.5] * 6 + [0.25] * 2


def test_plateau_on_a_score_waits_for_a_higher_one() -> None:
    schedule = plateau(
        two_groups(), total_steps=1, steps_per_epoch=1, monitor="val/balanced_accuracy", mode="max", patience=0
    )
    for score in (0.5, 0.6, 0.7):
        schedule.scheduler.step(score)
    assert schedule.scheduler.optimizer.param_groups[1]["lr"] == 1.0
    schedule.scheduler.step(0.7)
    assert schedule.scheduler.optimizer.param_groups[1]["lr"] == 0.5


@pytest.mark.parametrize("build", [cosine, constant, step, one_cycle])
def test_a_schedule_restored_from_a_checkpoint_goes_on_as_if_never_stopped(
    build: Callable[..., Schedule], tmp_path: Path
) -> None:
    expected = curve(build)
    optimizer = two_groups()
    schedule = build(optimizer, total_steps=100, steps_per_epoch=10)
    run(optimizer, schedule, 37)
    torch.save([optimizer.state_dict(), schedule.scheduler.state_dict()], tmp_path / "state.pt")
    fresh = two_groups()
    resumed = build(fresh, total_steps=100, steps_per_epoch=10)
    optimizer_state, scheduler_state = torch.load(tmp_path / "state.pt", weights_only=True)
    fresh.load_state_dict(optimizer_state)
    resumed.scheduler.load_state_dict(scheduler_state)
    assert run(fresh, resumed, 63) == expected[37:]


@pytest.mark.parametrize(
    ("build", "wrong"),
    [
        (cosine, {"warmup_epochs": -1}),
        (cosine, {"min_lr_ratio": 1.5}),
        (constant, {"warmup_epochs": -0.5}),
        (step, {"drop_epochs": 0}),
        (step, {"gamma": 0}),
        (one_cycle, {"warmup_fraction": 1.0}),
        (one_cycle, {"start_lr_ratio": 0.0}),
        (one_cycle, {"min_momentum": 0.96}),
        (plateau, {"factor": 1.0}),
        (plateau, {"patience": -1}),
    ],
)
def test_values_out_of_range_are_refused(build: Callable[..., Schedule], wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"expected .*scheduler\.{next(iter(wrong))}"):
        build(two_groups(), total_steps=100, steps_per_epoch=10, **wrong)

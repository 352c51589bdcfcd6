from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from sklearn.metrics import f1_score
from torch import Tensor, nn

from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.loss.balanced_softmax import BalancedSoftmax
from lesion_exp.loss.base import Loss, LossFunction, check_loss, is_mean_of_images
from lesion_exp.loss.binary_cross_entropy import BinaryCrossEntropy
from lesion_exp.loss.cross_entropy import CrossEntropy
from lesion_exp.loss.distill import Distill
from lesion_exp.loss.focal import Focal
from lesion_exp.loss.ldam import LDAM
from lesion_exp.loss.logit_adjusted import LogitAdjusted
from lesion_exp.loss.soft_f1 import SoftF1
from lesion_exp.loss.validation_loss import changes_validation_loss
from lesion_exp.model.classifier import make_loss

CONF_DIR = Path(__file__).parents[2] / "conf" / "loss"
NAMES = sorted(path.stem for path in CONF_DIR.glob("*.yaml"))
COUNTS = [327, 514, 1099, 115, 1113, 6705, 142]


def batch(num_classes: int = 7, size: int = 64, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(size, num_classes, generator=generator)
    return logits, torch.randint(num_classes, (size,), generator=generator)


def counts_for(name: str) -> list[int]:
    return [80, 40] if name == "binary_cross_entropy" else list(COUNTS)


def node_of(name: str) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load((CONF_DIR / f"{name}.yaml").read_text())
    if node.pop("defaults", None):  # a loss over that of the labels
        node |= {"labels": yaml.safe_load((CONF_DIR / "cross_entropy.yaml").read_text())}
    return node


def build(name: str) -> nn.Module:
    loss = make_loss(node_of(name), counts_for(name))
    assert isinstance(loss, nn.Module)
    return loss


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_loss_gives_a_float32_scalar_with_finite_gradients_for_extreme_logits(name: str) -> None:
    loss = build(name)
    num_classes = len(counts_for(name))
    for spread in (0.0, 1.0, 1e2, 1e4):
        logits, labels = batch(num_classes, spread=spread)
        logits.requires_grad_()
        value = loss(logits, labels)
        value.backward()
        assert (value.shape, value.dtype) == ((), torch.float32)
        assert value.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_loss_falls_when_the_true_logits_grow(name: str) -> None:
    loss = build(name)
    logits, labels = batch(len(counts_for(name)))
    better = logits + 3 * F.one_hot(labels, logits.shape[1])
    assert loss(better, labels) < loss(logits, labels)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_logits_under_autocast_are_computed_in_float32(name: str) -> None:
    loss = build(name)
    logits, labels = batch(len(counts_for(name)))
    rounded = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(rounded, labels)
    assert value.dtype == torch.float32
    assert value.item() == loss(rounded.float(), labels).item()


@pytest.mark.parametrize("name", NAMES)
def test_no_shipped_loss_puts_anything_into_a_checkpoint(name: str) -> None:
    assert not build(name).state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_training_images_is_refused_with_its_position(name: str) -> None:
    node = node_of(name)
    counts = counts_for(name)
    counts[1] = 0
    with pytest.raises(DataError, match="position 1 of the class order"):
        make_loss(node, counts)


def test_plain_cross_entropy_is_torchs() -> None:
    logits, labels = batch()
    close(CrossEntropy(COUNTS)(logits, labels), F.cross_entropy(logits, labels))


def test_label_smoothing_is_the_mean_over_smoothed_targets() -> None:
    logits, labels = batch()
    targets = 0.9 * F.one_hot(labels, 7) + 0.1 / 7
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    close(CrossEntropy(COUNTS, label_smoothing=0.1)(logits, labels), expected)


def test_balanced_cross_entropy_weighs_an_image_by_one_over_its_class_count() -> None:
    logits, labels = batch()
    losses = F.cross_entropy(logits, labels, reduction="none")
    weights = 1 / torch.tensor(COUNTS, dtype=torch.float32)[labels]
    expected = (weights * losses).sum() / weights.sum()
    close(CrossEntropy(COUNTS, class_weights="balanced")(logits, labels), expected)


@pytest.mark.parametrize("weights", ["none", "balanced", "inverse", "effective_number"])
def test_focal_with_gamma_0_is_cross_entropy(weights: str) -> None:
    logits, labels = batch()
    focal, reference = Focal(COUNTS, gamma=0, class_weights=weights), CrossEntropy(COUNTS, class_weights=weights)
    close(focal(logits, labels), reference(logits, labels))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_its_formula(gamma: float) -> None:
    logits, labels = batch()
    true_probs = logits.double().softmax(1)[torch.arange(64), labels]
    expected = (-((1 - true_probs) ** gamma) * true_probs.log()).mean().float()
    close(Focal(COUNTS, gamma=gamma)(logits, labels), expected)


def test_balanced_softmax_is_logit_adjustment_with_tau_1() -> None:
    logits, labels = batch()
    close(BalancedSoftmax(COUNTS)(logits, labels), LogitAdjusted(COUNTS, tau=1.0)(logits, labels))


def test_balanced_softmax_is_its_formula() -> None:
    logits, labels = batch()
    masses = torch.tensor(COUNTS) * logits.double().exp()
    expected = -(masses[torch.arange(64), labels] / masses.sum(1)).log().mean().float()
    close(BalancedSoftmax(COUNTS)(logits, labels), expected)


def test_logit_adjustment_with_tau_0_or_equal_counts_is_cross_entropy() -> None:
    logits, labels = batch()
    expected = F.cross_entropy(logits, labels)
    close(LogitAdjusted(COUNTS, tau=0.0)(logits, labels), expected)
    close(LogitAdjusted([50] * 7, tau=2.0)(logits, labels), expected)


def test_ldam_without_margin_and_with_scale_1_is_cross_entropy() -> None:
    logits, labels = batch()
    close(LDAM(COUNTS, max_margin=0.0, scale=1.0)(logits, labels), F.cross_entropy(logits, labels))


def test_ldam_takes_the_margin_from_the_true_logit_most_for_the_rarest_class() -> None:
    loss = LDAM([16, 1], max_margin=0.5, scale=3.0)
    logits = torch.tensor([[1.0, 0.5], [1.0, 0.5]])
    labels = torch.tensor([0, 1])  # margins 0.5 * 16^-1/4 = 0.25 and 0.5
    expected = F.cross_entropy(3 * torch.tensor([[0.75, 0.5], [1.0, 0.0]]), labels)
    close(loss(logits, labels), expected)


def test_ldam_reweights_from_the_deferred_epoch_on() -> None:
    logits, labels = batch()
    loss = LDAM(COUNTS, max_margin=0.0, defer_epoch=0.8)
    plain = F.cross_entropy(logits, labels)
    weighted = CrossEntropy(COUNTS, class_weights="effective_number")(logits, labels)
    assert abs(plain - weighted) > 1e-3
    for epoch, expected in ((0, plain), (7, plain), (8, weighted), (9, weighted), (3, plain)):
        loss.set_epoch(epoch, 10)
        close(loss(logits, labels), expected)
    never = LDAM(COUNTS, max_margin=0.0, defer_epoch=1.0)
    never.set_epoch(10, 10)
    close(never(logits, labels), plain)


@pytest.mark.parametrize("is_student", [False, True])
def test_the_loss_of_a_validation_means_the_same_before_and_after_the_deferred_epoch(is_student: bool) -> None:
    logits, labels = batch()
    ldam = LDAM(COUNTS, defer_epoch=0.8)
    loss = Distill(COUNTS, ldam, teacher="run") if is_student else ldam
    before = loss.of_validation(logits, labels)
    close(before, loss(logits, labels))
    loss.set_epoch(8, 10)
    weighted = loss(logits, labels)
    assert abs(weighted - before) > 1e-3
    close(loss.of_validation(logits, labels), before)
    close(loss(logits, labels), weighted)


@pytest.mark.parametrize(
    ("kind", "usual", "others"),
    [
        (LDAM, {}, {"max_margin": 0.1, "scale": 3.0, "defer_epoch": 0.0, "beta": 0.9}),
        (
            Distill,
            {"labels": CrossEntropy(COUNTS), "teacher": "one"},
            {"labels": Focal(COUNTS), "teacher": "other", "teacher_weights": "0" * 16, "temperature": 2.0,
             "label_share": 0.9, "views": "same", "calibration": "vector"},
        ),
    ],
)  # fmt: skip
def test_the_parameters_that_change_the_loss_of_a_validation_are_known(
    kind: type[Loss], usual: dict[str, Any], others: dict[str, Any]
) -> None:
    logits, labels = batch()

    def value(**changed: Any) -> float:
        loss = kind(COUNTS, **{**usual, **changed})
        loss.set_epoch(9, 10)
        return loss.of_validation(logits, labels).item()

    assert inspect.signature(kind).parameters.keys() == {"class_counts", *others}
    params = {"loss._target_": f"{kind.__module__}.{kind.__name__}"}
    for name, other in others.items():
        assert changes_validation_loss(f"loss.{name}", params) == (value(**{name: other}) != value()), name


def test_ldam_without_an_end_of_training_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs=-1"):
        LDAM(COUNTS).set_epoch(0, -1)
    LDAM(COUNTS, defer_epoch=1.0).set_epoch(0, -1)


def test_soft_f1_of_certain_predictions_is_one_minus_macro_f1() -> None:
    logits, labels = batch()
    certain = 1e4 * F.one_hot(logits.argmax(1), 7).float()
    expected = 1 - f1_score(labels, logits.argmax(1), average="macro")
    assert SoftF1(COUNTS)(certain, labels).item() == pytest.approx(expected, abs=1e-6)


def test_soft_f1_counts_only_the_classes_of_the_batch() -> None:
    logits = torch.tensor([[0.0, 0.0, -1e4], [0.0, 0.0, -1e4]])
    # p = (1/2, 1/2, 0) twice, both of class 0: f1 = 2 * 1 / (1 + 2)
    assert SoftF1([5, 5, 5])(logits, torch.tensor([0, 0])).item() == pytest.approx(1 - 2 / 3)


def test_binary_cross_entropy_is_the_softmax_cross_entropy_of_two_classes() -> None:
    logits, labels = batch(2)
    close(BinaryCrossEntropy([80, 40])(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize(("pos_weight", "factor"), [("balanced", 2.0), (3.5, 3.5), (1, 1.0)])
def test_pos_weight_multiplies_the_losses_of_the_second_class(pos_weight: str | float, factor: float) -> None:
    logits, labels = batch(2)
    losses = F.cross_entropy(logits, labels, reduction="none")
    expected = torch.where(labels == 1, factor * losses, losses).mean()
    close(BinaryCrossEntropy([80, 40], pos_weight)(logits, labels), expected)


def test_binary_cross_entropy_of_seven_classes_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"got 7; set task\.target=malignant"):
        BinaryCrossEntropy(COUNTS)


def test_values_out_of_range_are_refused() -> None:
    wrong = [
        lambda: CrossEntropy(COUNTS, label_smoothing=1.0),
        lambda: Focal(COUNTS, gamma=-1),
        lambda: LogitAdjusted(COUNTS, tau=-0.1),
        lambda: LDAM(COUNTS, max_margin=-1),
        lambda: LDAM(COUNTS, scale=0),
        lambda: LDAM(COUNTS, defer_epoch=160),
        lambda: LDAM(COUNTS, beta=1.0),
        lambda: BinaryCrossEntropy([1, 1], pos_weight="balance"),
        lambda: BinaryCrossEntropy([1, 1], pos_weight=-1.0),
    ]
    for build_wrong in wrong:
        with pytest.raises(ConfigError, match="expected "):
            build_wrong()


class WithEpochs:
    """A callable that is no module, and wants to know the epoch."""

    def __init__(self, class_counts: list[int], power: float = 1.0) -> None:
        self.class_counts, self.power, self.seen = class_counts, power, (-1, -1)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels) ** self.power

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        self.seen = (epoch, max_epochs)


def of_logits(logits: Tensor, labels: Tensor, scale: float = 1.0) -> Tensor:
    """A function that is the loss itself."""
    return scale * F.cross_entropy(logits, labels)


def made_by_a_function(power: float) -> WithEpochs:
    """A function that makes the loss."""
    return WithEpochs([], power)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> str:
    """This file as a package of a user's own."""
    monkeypatch.setitem(sys.modules, "losses_of_the_test", sys.modules[__name__])
    monkeypatch.setenv(TRUST_VARIABLE, f"losses_of_the_test,{__name__.partition('.')[0]}")
    return "losses_of_the_test"


def test_a_loss_of_torch_is_a_loss_and_keeps_its_own_arguments() -> None:
    logits, labels = batch()
    loss = make_loss({"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": 0.1}, COUNTS)
    close(loss(logits.bfloat16(), labels), F.cross_entropy(logits.bfloat16().float(), labels, label_smoothing=0.1))
    check_loss(loss, "loss=mine")
    with pytest.raises(ConfigError, match="mean over the batch"):
        check_loss(make_loss({"_target_": "torch.nn.CrossEntropyLoss", "reduction": "none"}, COUNTS), "loss=mine")


def test_any_callable_of_a_trusted_package_is_a_loss(trusted: str) -> None:
    logits, labels = batch()
    expected = F.cross_entropy(logits, labels)
    close(make_loss({"_target_": f"{trusted}.of_logits", "scale": 3.0}, COUNTS)(logits, labels), 3 * expected)
    close(make_loss({"_target_": f"{trusted}.made_by_a_function", "power": 2.0}, COUNTS)(logits, labels), expected**2)
    loss = make_loss({"_target_": f"{trusted}.WithEpochs"}, COUNTS)
    loss.set_epoch(3, 9)
    assert isinstance(loss, LossFunction)
    assert isinstance(loss.function, WithEpochs)
    assert (loss.function.class_counts, loss.function.seen) == (COUNTS, (3, 9))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda logits: logits.mean(), "fails"),
        (lambda logits, labels: logits, "mean over the batch"),
        (lambda logits, labels: 0.5, "float"),
        (lambda logits, labels: logits.detach().mean(), "has no gradient"),
        (lambda logits, labels: F.cross_entropy(logits, labels + 100), "fails"),
    ],
)
def test_a_callable_that_cannot_train_is_refused(function: Callable[..., Tensor], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_loss(LossFunction(function, [1, 2]), "loss=mine")


def test_what_cannot_be_called_is_no_loss() -> None:
    with pytest.raises(ConfigError, match="called with logits and labels"):
        LossFunction(7, [1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "is_mean"),
    [
        (CrossEntropy(COUNTS, label_smoothing=0.1), True),
        (CrossEntropy(COUNTS, "balanced"), False),
        (CrossEntropy([5, 5, 5], "balanced"), True),  # the weights are all 1
        (Focal(COUNTS), True),
        (Focal(COUNTS, class_weights="effective_number"), False),
        (BalancedSoftmax(COUNTS), True),
        (LogitAdjusted(COUNTS), True),
        (BinaryCrossEntropy([80, 40], pos_weight=2.0), True),
        (LDAM(COUNTS), False),
        (LDAM(COUNTS, defer_epoch=1.0), True),
        (SoftF1(COUNTS), False),
        (LossFunction(F.cross_entropy, COUNTS), True),
        (LossFunction(lambda logits, labels: F.cross_entropy(logits, labels, reduction="sum"), COUNTS), False),
    ],
)
def test_a_loss_is_a_mean_of_images_unless_it_is_divided_by_something_of_the_batch(loss, is_mean) -> None:
    assert is_mean_of_images(loss, 10) == is_mean
    assert not getattr(loss, "reweighting", False), "the loss itself is as it was"
    assert is_mean_of_images(loss, -1) or not is_mean

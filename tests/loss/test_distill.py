"""Distillation against formulas that are computed independently, and weights of images in every loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.loss.base import LossFunction, check_weights
from lesion_exp.loss.cross_entropy import CrossEntropy
from lesion_exp.loss.distill import Distill
from lesion_exp.loss.focal import Focal
from tests.loss.test_losses import NAMES, batch, build, close, counts_for

COUNTS = [30, 50, 20]


def distill(**keys) -> Distill:
    labels = keys.pop("labels", None) or CrossEntropy(COUNTS)
    return Distill(COUNTS, labels, "teacher", **keys)


def logits_of(seed: int, size: int = 16, num_classes: int = 3) -> Tensor:
    return 3 * torch.randn(size, num_classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.1), (4.0, 0.1), (4.0, 0.9), (20.0, 0.0), (0.5, 1.0)])
def test_the_loss_is_hintons_computed_in_double_precision_by_scipy(temperature: float, share: float) -> None:
    student, teacher, labels = logits_of(1), logits_of(2), torch.arange(16) % 3
    found = distill(temperature=temperature, label_share=share)(student, labels, teacher=teacher)
    z, t = student.double().numpy(), teacher.double().numpy()
    soft = rel_entr(softmax(t / temperature, axis=1), softmax(z / temperature, axis=1)).sum(axis=1).mean()
    hard = -log_softmax(z, axis=1)[np.arange(16), labels.numpy()].mean()
    assert float(found) == pytest.approx(share * hard + (1 - share) * temperature**2 * soft, rel=1e-5)


def test_probabilities_serve_as_well_as_logits() -> None:
    student, teacher, labels = logits_of(1), logits_of(2), torch.arange(16) % 3
    loss = distill(temperature=3.0)
    close(loss(student, labels, teacher=teacher), loss(student, labels, teacher=teacher.log_softmax(dim=1)))


def test_the_gradient_is_that_of_finite_differences() -> None:
    labels, teacher = torch.arange(5) % 3, logits_of(2, 5).double()
    loss = distill(temperature=2.0)
    logits = logits_of(1, 5).double().requires_grad_()

    def soft(values: Tensor) -> Tensor:
        return loss.divergence(values, teacher)

    assert torch.autograd.gradcheck(soft, (logits,))
    (gradient,) = torch.autograd.grad(soft(logits), logits)
    expected = 2.0 * (softmax(logits.detach() / 2, axis=1) - softmax(teacher / 2, axis=1)) / len(labels)
    close(gradient, expected.to(gradient) if isinstance(expected, Tensor) else torch.from_numpy(expected))


def test_a_student_with_the_teachers_logits_has_no_gradient_of_the_divergence() -> None:
    teacher = logits_of(2)
    logits = teacher.clone().requires_grad_()
    value = distill(label_share=0.0)(logits, torch.zeros(16, dtype=torch.int64), teacher=teacher + 5.0)
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-5)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-6


def test_a_large_temperature_compares_centred_logits() -> None:
    student, teacher = logits_of(1).double(), logits_of(2).double()
    loss = distill(temperature=1e3)
    centred = (student - student.mean(dim=1, keepdim=True)) - (teacher - teacher.mean(dim=1, keepdim=True))
    limit = (centred**2).sum(dim=1).mean() / (2 * 3)
    assert float(loss.divergence(student, teacher)) == pytest.approx(float(limit), rel=1e-2)


def test_without_a_teacher_it_is_the_loss_of_the_labels() -> None:
    logits, labels = logits_of(1), torch.arange(16) % 3
    for inner in (CrossEntropy(COUNTS, class_weights="balanced"), Focal(COUNTS, gamma=1.0)):
        close(distill(labels=inner)(logits, labels), inner(logits, labels))


def test_the_epoch_reaches_the_loss_of_the_labels() -> None:
    inner = CrossEntropy(COUNTS)
    seen = []
    inner.set_epoch = lambda epoch, max_epochs: seen.append((epoch, max_epochs))  # type: ignore[method-assign]
    distill(labels=inner).set_epoch(3, 9)
    assert seen == [(3, 9)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"temperature": 0.0}, "temperature to be above 0"),
        ({"label_share": 1.5}, r"label_share to be in \[0, 1\]"),
        ({"views": "both"}, "fixed, same"),
    ],
)
def test_values_out_of_range_are_refused(keys, message) -> None:
    with pytest.raises(ConfigError, match=message):
        distill(**keys)


def test_a_teacher_inside_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match="another loss for the labels"):
        distill(labels=distill())


def inputs(name: str) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, labels, and the further arguments of the loss `name`."""
    num_classes = len(counts_for(name))
    logits, labels = batch(num_classes)
    teacher = torch.randn(len(labels), num_classes, generator=torch.Generator().manual_seed(5))
    return logits, labels, {"teacher": teacher} if name == "distill" else {}


@pytest.mark.parametrize("name", NAMES)
def test_equal_weights_change_nothing_and_weight_0_is_absence(name: str) -> None:
    loss = build(name)
    if name == "ldam":
        loss.set_epoch(9, 10)  # with the weights of its classes
    logits, labels, further = inputs(name)
    close(loss(logits, labels, torch.full((len(labels),), 0.3), **further), loss(logits, labels, **further))
    weights = (torch.arange(len(labels)) % 3 > 0).float()
    kept = weights > 0
    those = {key: values[kept] for key, values in further.items()}
    close(loss(logits, labels, weights, **further), loss(logits[kept], labels[kept], **those))


@pytest.mark.parametrize("name", NAMES)
def test_weight_2_is_an_image_twice(name: str) -> None:
    loss = build(name)
    logits, labels, further = inputs(name)
    weights = torch.ones(len(labels))
    weights[:10] = 2.0
    twice = torch.cat([torch.arange(len(labels)), torch.arange(10)])
    doubled = {key: values[twice] for key, values in further.items()}
    close(loss(logits, labels, weights, **further), loss(logits[twice], labels[twice], **doubled))


def test_a_loss_of_the_users_own_takes_no_weights() -> None:
    loss = LossFunction(F.cross_entropy, COUNTS)
    with pytest.raises(ConfigError, match=r"pseudo_weight, got loss=mine; set dataset\.pseudo_weight=1"):
        check_weights(loss, "loss=mine")
    check_weights(CrossEntropy(COUNTS), "loss=cross_entropy")

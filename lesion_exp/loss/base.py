"""What every loss promises: logits and labels in, a float32 scalar out; and how any callable becomes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from lesion_exp.errors import ConfigError, DataError, check_choice


class Loss(nn.Module, ABC):
    """A loss of a classifier with one class a lesion.

    Args:
        class_counts: training images of each class, in class order.

    Raises:
        DataError: a class has no training image.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        super().__init__()
        absent = [str(position) for position, count in enumerate(class_counts) if count <= 0]
        if absent or not class_counts:
            raise DataError(
                f"expected at least one training image of every class, got the counts {list(class_counts)} (none at "
                f"position {', '.join(absent) or '0'} of the class order, counted from 0); leave the class out with "
                f"dataset.filter, or give its lesions to the training part with another split"
            )
        self.num_classes = len(class_counts)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, float32 scalar, computed in float32 also under autocast.

        Args:
            logits: float (N, C), unnormalised.
            labels: int64 (N,), in 0..C-1.
        """
        assert logits.shape == (len(labels), self.num_classes), "logits do not fit the labels or the class counts"
        with torch.autocast(logits.device.type, enabled=False):
            return self.compute(logits.float(), labels)

    @abstractmethod
    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch; `logits` float32 (N, C), `labels` int64 (N,)."""

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Called before each epoch, counted from 0; for losses that change during training."""
        del epoch, max_epochs


class LossFunction(Loss):
    """Any callable `(logits, labels) -> scalar` as a loss; where it has a method `set_epoch`, that is called, too.

    Args:
        function: logits float32 (N, C) and labels int64 (N,) -> the mean loss of the batch.
        class_counts: training images of each class, in class order.

    Raises:
        ConfigError: it cannot be called.
        DataError: a class has no training image.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Any], class_counts: Sequence[int]) -> None:
        super().__init__(class_counts)
        if not callable(function):
            raise ConfigError(
                f"expected the loss's _target_ to make something that is called with logits and labels, got "
                f"{type(function).__name__}"
            )
        self.function = function

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the callable gives; `logits` float32 (N, C), `labels` int64 (N,)."""
        value: Tensor = self.function(logits, labels)
        return value

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Passed on to a callable that has a method of this name."""
        told = getattr(self.function, "set_epoch", None)
        if told is not None:
            told(epoch, max_epochs)


def check_loss(loss: Loss, name: str) -> None:
    """Checks on one batch of two images a class that a loss can train: it gives a scalar that depends on the logits.

    Args:
        loss: any loss.
        name: what the user calls it, for the message.

    Raises:
        ConfigError: it fails, or gives something else.
    """
    labels = torch.arange(loss.num_classes).repeat(2)
    logits = torch.linspace(-1.0, 1.0, len(labels) * loss.num_classes).reshape(len(labels), -1).requires_grad_()
    expected = "expected a loss that takes logits (N, C) and labels (N,) and gives a scalar tensor to train on, but"
    try:
        value = loss(logits, labels)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise ConfigError(f"{expected} {name} fails: {error}") from error
    if not isinstance(value, Tensor) or value.shape != ():
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(f"{expected} {name} gives {found}; return the mean over the batch")
    if not value.requires_grad:
        raise ConfigError(f"{expected} what {name} gives does not depend on the logits by torch's operations")


SCHEMES: Final = ("none", "balanced", "inverse", "effective_number")


def class_weights(
    class_counts: Sequence[int], scheme: str = "none", power: float | None = None, beta: float | None = None
) -> Tensor | None:
    """The weight of each class, float32 (C,), such that the mean weight of a training image is 1; None for `none`.

    With n_c images of class c, N images in all and C classes, the weight of c is, up to that common scale,

    - `balanced`: N / (C n_c), so that every class weighs the same in sum (King and Zeng 2001,
      doi:10.1093/oxfordjournals.pan.a004868, as in scikit-learn);
    - `inverse`: (N / n_c)^power; power 1 equals `balanced`, 0.5 (square root) is milder, 0 is no weighting
      (Mahajan et al. 2018, arXiv:1805.00932, for the square root);
    - `effective_number`: (1 - beta) / (1 - beta^n_c); beta 0 is no weighting, beta towards 1 tends to `balanced`
      (Cui et al. 2019, arXiv:1901.05555).

    Args:
        class_counts: training images of each class, in class order, all positive.
        scheme: one of `none`, `balanced`, `inverse`, `effective_number`.
        power: exponent of `inverse`, at least 0; None is 1.
        beta: of `effective_number`, in [0, 1); None is 0.9999.

    Raises:
        ConfigError: the scheme is unknown, a value is out of range, or `power` or `beta` would have no effect.
    """
    check_choice("loss.class_weights", scheme, SCHEMES)
    _require_effect("power", power, "inverse", scheme)
    _require_effect("beta", beta, "effective_number", scheme)
    counts = torch.tensor([float(count) for count in class_counts], dtype=torch.float64)
    match scheme:
        case "balanced":
            raw = 1 / counts
        case "inverse":
            exponent = 1.0 if power is None else power
            if exponent < 0:
                raise ConfigError(f"expected loss.power to be at least 0, got {power}; 0.5 is a usual value")
            raw = (counts.sum() / counts) ** exponent
        case "effective_number":
            raw = _effective_number_weights(counts, 0.9999 if beta is None else beta)
        case _:
            return None
    return (raw * counts.sum() / (raw * counts).sum()).float()


def _effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    if not 0 <= beta < 1:
        raise ConfigError(f"expected loss.beta to be in [0, 1), got {beta}; 0.999 to 0.9999 are usual values")
    if beta == 0:
        return torch.ones_like(counts)
    exponent = counts * torch.log(torch.tensor(beta, dtype=torch.float64))
    return (1 - beta) / -torch.expm1(exponent)  # expm1: no digits are lost where beta is next to 1


def _require_effect(key: str, value: float | None, owner: str, scheme: str) -> None:
    if value is not None and scheme != owner:
        raise ConfigError(
            f"loss.{key}={value} has an effect only with loss.class_weights={owner}, got "
            f"loss.class_weights={scheme}; set loss.{key}=null or loss.class_weights={owner}"
        )

"""The base class of methods of self-supervised pretraining, each with its heads, its targets and its loss."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lesion_exp.errors import ConfigError


@dataclass(frozen=True)
class Progress:
    """The progress of a training."""

    step: int
    """Number of optimizer steps that were made."""
    total_steps: float
    """Number of optimizer steps of the whole training; infinite if only time or early stopping ends it."""
    epoch: int
    """The present epoch, counted from 0."""


@dataclass(frozen=True)
class BodyFacts:
    """The properties of the body that a method trains.

    Args:
        num_features: length of its feature vectors.
        is_convolutional: whether it has feature maps throughout.
        image_size: side of the images in pixels.
        starts_random: whether its initial weights are random and not those of a file.
    """

    num_features: int
    is_convolutional: bool
    image_size: int
    starts_random: bool


class Method(nn.Module, ABC):
    """A method; subclasses define the loss. The body itself belongs to the network of the run, not to the method."""

    num_views: int = 2
    """Augmented views of an image in a training step."""
    least_images: ClassVar[int] = 2
    """Smallest number of images in a step from which the loss can be computed."""
    follows_length: ClassVar[bool] = False
    """Whether the first steps depend on the length of the training, apart from the learning rate."""
    draws_numbers: ClassVar[bool] = False
    """Whether the loss draws random numbers for the images of a process, such as masks."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher: nn.Module | None = None
        """The body whose weights are the result; None: the trained body."""

    def attach(self, body: nn.Module) -> None:
        """Makes the parts that depend on `body`: a momentum teacher, or a decoder. It is called once, before `loss`.

        Raises:
            ConfigError: the method cannot train such a body.
        """

    @abstractmethod
    def loss(self, body: nn.Module, views: Sequence[Tensor], progress: Progress) -> Tensor:
        """Returns the loss, a scalar.

        Args:
            body: from images float32 (N, C, S, S), normalised, to features floating point (N, F).
            views: `num_views` tensors of the images of the step, each float32 (N, C, S, S), normalised.
            progress: how far the training is.
        """

    def before_step(self, body: nn.Module, progress: Progress) -> None:
        """Is called before the loss of each optimizer step; a method with a momentum teacher updates it here."""

    def after_backward(self, progress: Progress) -> None:
        """Is called before each optimizer step, after the gradients were computed."""


def momentum_copy(module: nn.Module) -> nn.Module:
    """Returns a copy of `module` that no optimizer trains."""
    copied = copy.deepcopy(module)
    for weights in copied.parameters():
        weights.requires_grad_(False)
    return copied


def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Moves the weights of `teacher` towards those of `student`: teacher = m * teacher + (1 - m) * student."""
    from lightly.models.utils import update_momentum

    update_momentum(student, teacher, momentum)


def momentum_at(progress: Progress, start: float, end: float) -> float:
    """Returns the momentum of a step.

    It changes from `start` to `end` along half a cosine over the training, and is `start` if the training has no end.
    """
    if progress.total_steps == float("inf"):
        return start
    from lightly.utils.scheduler import cosine_schedule

    return float(cosine_schedule(min(progress.step, int(progress.total_steps)), int(progress.total_steps), start, end))


def check_momentum(key: str, value: float) -> None:
    """Checks that `value` is a momentum.

    Raises:
        ConfigError: `value` is not from 0 to 1.
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"expected pretrain.{key} from 0 to 1, got {value}; 0.99 to 0.999 is usual")


def in_float32(*values: Tensor) -> list[Tensor]:
    """Returns `values` in float32; their loss is computed under `without_autocast`."""
    return [value.float() for value in values]


def without_autocast(device: torch.device) -> torch.autocast:
    """Returns a context without half precision, since similarities in bf16 have two significant digits."""
    return torch.autocast(device.type, enabled=False)


def features_of(body: nn.Module, views: Sequence[Tensor]) -> list[Tensor]:
    """Returns the features of each view, floating point (N, F), from one pass over all views."""
    return list(body(torch.cat(list(views))).chunk(len(views)))

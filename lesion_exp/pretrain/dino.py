"""DINO: a student matches the sharpened and centred outputs of its own moving average on other views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from lesion_exp.errors import ConfigError
from lesion_exp.pretrain.method import (
    BodyFacts,
    Method,
    Progress,
    check_momentum,
    features_of,
    follow,
    in_float32,
    momentum_at,
    momentum_copy,
    without_autocast,
)

PACKAGE: Final = "lightly"
TEACHER_VIEWS: Final = 2
"""Views of an image that the teacher sees; the student sees all."""


class DINO(Method):
    """Cross-entropy between the softmax outputs of teacher and student on different views of an image.

    The teacher is a moving average of the student, whose momentum rises from `momentum` to 1 along half a cosine. Its
    outputs are centred and sharpened, so that they do not collapse (Caron et al. 2021, arXiv:2104.14294). The weights
    of the teacher are the result, as in the paper. All views have the same size; there are no small local crops.

    Args:
        facts: the properties of the body.
        num_views: views of an image; the teacher sees the first two, the student all.
        hidden_dim: width of the hidden layers of the head.
        output_dim: number of outputs; the paper has 65,536 for a million images.
        momentum: the momentum of the teacher at the first step, from 0 to 1.
        teacher_temperature: the temperature of the teacher's softmax after the warm-up, above 0.
        warmup_teacher_temperature: the temperature of the teacher's softmax at the start, above 0.
        warmup_epochs: number of epochs in which the temperature goes from one to the other.
        student_temperature: the temperature of the student's softmax, above 0.
        center_momentum: the momentum, from 0 to 1, of the moving average of the teacher's outputs, which is subtracted
            from them.
        freeze_last_layer: epochs at the start in which the last layer of the head is not trained.

    Raises:
        ConfigError: a value is out of range.
    """

    follows_length: ClassVar[bool] = True

    def __init__(
        self,
        facts: BodyFacts,
        num_views: int = 2,
        hidden_dim: int = 2048,
        output_dim: int = 4096,
        momentum: float = 0.99,
        teacher_temperature: float = 0.04,
        warmup_teacher_temperature: float = 0.04,
        warmup_epochs: int = 10,
        student_temperature: float = 0.1,
        center_momentum: float = 0.9,
        freeze_last_layer: int = 1,
    ) -> None:
        super().__init__()
        if num_views < TEACHER_VIEWS:
            raise ConfigError(
                f"expected pretrain.num_views of at least {TEACHER_VIEWS}, got {num_views}; {TEACHER_VIEWS} is the "
                f"default"
            )
        check_momentum("momentum", momentum)
        check_momentum("center_momentum", center_momentum)
        for key, value in (
            ("teacher_temperature", teacher_temperature),
            ("warmup_teacher_temperature", warmup_teacher_temperature),
            ("student_temperature", student_temperature),
        ):
            if value <= 0:
                raise ConfigError(f"expected pretrain.{key} above 0, got {value}; 0.04 to 0.1 is usual")
        from lightly.loss import DINOLoss
        from lightly.models.modules.heads import DINOProjectionHead

        def head() -> nn.Module:
            made: nn.Module = DINOProjectionHead(
                facts.num_features,
                hidden_dim,
                output_dim=output_dim,
                batch_norm=facts.is_convolutional,
                freeze_last_layer=freeze_last_layer,
            )
            return made

        self.num_views = num_views
        self.momentum = momentum
        self.head = head()
        self.teacher_head = head()  # a layer with weight normalisation cannot be copied, but its weights can
        self.teacher_head.load_state_dict(self.head.state_dict())
        self.teacher_head.requires_grad_(False)
        self.objective = DINOLoss(
            output_dim,
            warmup_teacher_temp=warmup_teacher_temperature,
            teacher_temp=teacher_temperature,
            warmup_teacher_temp_epochs=warmup_epochs,
            student_temp=student_temperature,
            center_momentum=center_momentum,
        )

    def attach(self, body: nn.Module) -> None:
        """Makes the teacher, which begins as the student."""
        self.teacher = momentum_copy(body)

    def before_step(self, body: nn.Module, progress: Progress) -> None:
        """Moves the teacher towards the student."""
        assert self.teacher is not None, "attach was called"
        momentum = momentum_at(progress, self.momentum, 1.0)
        follow(self.teacher, body, momentum)
        follow(self.teacher_head, self.head, momentum)

    def loss(self, body: nn.Module, views: Sequence[Tensor], progress: Progress) -> Tensor:
        """See `Method.loss`."""
        assert self.teacher is not None, "attach was called"
        student = in_float32(*(self.head(features) for features in features_of(body, views)))
        with torch.no_grad():
            seen = features_of(self.teacher, views[:TEACHER_VIEWS])
            teacher = in_float32(*(self.teacher_head(features) for features in seen))
        with without_autocast(student[0].device):
            value: Tensor = self.objective(teacher, student, epoch=progress.epoch)
        return value

    def after_backward(self, progress: Progress) -> None:
        """Removes the gradients of the head's last layer in the first epochs."""
        self.head.cancel_last_layer_gradients(progress.epoch)  # type: ignore[operator]

"""A transform that applies one of several named transforms."""

from __future__ import annotations

from collections.abc import Mapping

from lesion_exp.augmentation.library import Transform, albumentations, check_arguments
from lesion_exp.errors import ConfigError


class OneOf(albumentations.OneOf):  # type: ignore[misc]
    """Applies one of `transforms`, drawn with their `p` as weights.

    Unlike those of `albumentations.OneOf`, the choices have names, so that an override can change each of them:
    `augmentation.transforms.blur.transforms.motion=null` leaves one out.

    Args:
        transforms: name -> transform, or None for a choice that is left out.
        p: probability that one of them is applied.

    Raises:
        ConfigError: no choice has a weight above 0, or one is not a transform.
    """

    def __init__(self, transforms: Mapping[str, Transform | None], p: float = 0.5) -> None:
        choices = {name: transform for name, transform in transforms.items() if transform is not None}
        for name, transform in choices.items():
            check_arguments(transform, f"transforms.{name}")
        if not choices or not sum(choice.p for choice in choices.values()) > 0:
            raise ConfigError("expected a choice with p above 0 in OneOf, got none; set the whole node to null instead")
        self.names = tuple(choices)
        super().__init__(transforms=list(choices.values()), p=p)

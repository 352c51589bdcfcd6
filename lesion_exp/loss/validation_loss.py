"""Which parameters of losses change `val/loss`. Commands that search runs ask without torch, so it is not imported."""

from collections.abc import Mapping
from typing import Final

_OF_TRAINING: Final[Mapping[str, frozenset[str]]] = {
    "lesion_exp.loss.distill.Distill": frozenset(
        {"teacher", "teacher_weights", "temperature", "label_share", "views", "calibration"}
    ),
    "lesion_exp.loss.ldam.LDAM": frozenset({"defer_epoch", "beta"}),
}
"""Parameters that `Loss.of_validation` does not depend on, by the target of the loss."""


def changes_validation_loss(key: str, params: Mapping[str, str]) -> bool:
    """Returns whether the parameter `key` of a loss changes `val/loss`, and not training alone (see `of_validation`).

    Args:
        key: such as `loss.gamma`, or `loss.labels.gamma` for the loss of the labels of a distillation.
        params: the config of the loss as values by such keys, with each `loss._target_`.
    """
    names = key.split(".")
    targets = (params.get(".".join([*names[:place], "_target_"]), "") for place in range(1, len(names)))
    return not any(name in _OF_TRAINING.get(target, ()) for name, target in zip(names[1:], targets, strict=True))

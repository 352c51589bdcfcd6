"""Methods of self-supervised pretraining, which train the body of a network without labels."""

from typing import Final

from lesion_exp.errors import ConfigError

COMMON_KEYS: Final = frozenset({"parts", "probe_every", "probe_neighbours"})
"""Keys of every file in `conf/pretrain` that are not arguments of the method."""
EVERY_PART: Final = "all"
"""The value of `pretrain.parts` for all images of the data set, those of the validation and test part included."""
PARTS: Final = ("train", "val", "test")


def chosen_parts(value: object) -> tuple[str, ...]:
    """Returns the parts of a split whose images `pretrain.parts` names, in the order train, val, test.

    Raises:
        ConfigError: the value names something else, or no part.
    """
    if value == EVERY_PART:
        return PARTS
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    if not names or any(name not in PARTS for name in names):
        raise ConfigError(
            f"expected pretrain.parts to be train, all, or a list of {', '.join(PARTS)}, got {value!r}; for example "
            f"pretrain.parts=train"
        )
    return tuple(part for part in PARTS if part in names)

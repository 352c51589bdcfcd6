"""The one door to albumentations and its kernels: how it is imported here, and what it does not check itself."""

from __future__ import annotations

import hashlib
import inspect
import os
import random
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import, which else asks the network for a newer release

import albucore
import albumentations as albumentations
from albumentations.core.type_definitions import Targets

from lesion_exp.errors import ConfigError, nearest

Transform: TypeAlias = Any
"""`albumentations.BasicTransform` or `albumentations.BaseCompose`; the library is not typed."""

look_up = albucore.sz_lut
"""look_up(image, table): uint8 values through a table of 256, several times as fast as `cv2.LUT`."""

_SIZE_CHANGING_MODULES = ("albumentations.augmentations.crops.", "albumentations.augmentations.geometric.resize")


class ImageTransform(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """A transform of the image that leaves its geometry, and so the mask, as it is."""


class GeometricTransform(albumentations.DualTransform):  # type: ignore[misc]
    """A transform that moves image and mask alike."""

    _targets = (Targets.IMAGE, Targets.MASK)


def refuse_repairs() -> None:
    """From now on a value that albumentations would repair with a warning raises that warning.

    The warning about unknown arguments is silenced: `check_arguments` makes an error of it that names the nearest one.
    """
    warnings.filterwarnings("error", message=".*(Invalid kernel size range|Range automatically adjusted)")
    warnings.filterwarnings("ignore", message=r"Argument\(s\) .* are not valid for transform")


refuse_repairs()


def walk(transform: Transform, path: str) -> Iterator[tuple[str, Transform]]:
    """`transform` and everything inside it, each with its path in the config."""
    yield path, transform
    if isinstance(transform, albumentations.BaseCompose):
        names = getattr(transform, "names", range(len(transform.transforms)))
        for name, inner in zip(names, transform.transforms, strict=True):
            yield from walk(inner, f"{path}.transforms.{name}")


def check_arguments(transform: object, path: str) -> None:
    """Checks that `transform` can be used in a pipeline.

    Raises:
        ConfigError: it is no transform, or it was built with an argument that it does not have or a `p` that is no
            probability; `path` says where.
    """
    if not isinstance(transform, albumentations.BasicTransform | albumentations.BaseCompose):
        raise ConfigError(
            f"expected a transform of albumentations at {path}, got {transform!r}; give a node with a _target_ such as "
            f"albumentations.Rotate, or null to switch it off"
        )
    for place, part in walk(transform, path):
        if not hasattr(part, "p"):
            name = type(part).__name__
            raise ConfigError(
                f"expected {name} at {place} to have a probability p, which its base class keeps; begin "
                f"{name}.__init__ with super().__init__(p=p)"
            )
        if not 0 <= part.p <= 1:
            raise ConfigError(f"expected a probability from 0 to 1, got {place}.p={part.p}")
        known = set(_parameters(part)) - {"self", "args", "kwargs"}
        for name in getattr(part, "invalid_args", []):
            raise ConfigError(
                f"expected an argument of {type(part).__name__}, got {place}.{name}; {nearest(name, known)}"
            )


def changes_size(transform: Transform) -> bool:
    """Whether `transform` or something inside it exists to change the size of an image."""
    return any(
        type(part).__module__.startswith(_SIZE_CHANGING_MODULES) or getattr(part, "changes_size", False)
        for _, part in walk(transform, "")
    )


def describe(transform: Transform) -> str:
    """One line: the transform's name and those of its arguments that differ from the defaults."""
    own: str | None = getattr(transform, "description", None)
    if own is not None:
        return own
    if isinstance(transform, albumentations.BaseCompose):
        inner = ", ".join(describe(part) for part in transform.transforms)
        return f"{type(transform).__name__}({inner}, p={transform.p:g})"
    signature = _parameters(transform)
    shown: dict[str, Any] = {
        name: value
        for name, value in transform.get_transform_init_args().items()
        if name != "p" and name in signature and not _same(value, signature[name].default)
    }
    arguments = [f"{name}={_shorten(value)}" for name, value in shown.items()]
    return f"{type(transform).__name__}({', '.join([*arguments, f'p={transform.p:g}'])})"


def _parameters(transform: Transform) -> dict[str, inspect.Parameter]:
    kind: Any = type(transform)
    return dict(inspect.signature(kind.__init__).parameters)


def _same(value: Any, default: Any) -> bool:
    """Whether an attribute holds its default, which may have been written shorter: 0.2 for (-0.2, 0.2), None for 0."""
    if isinstance(value, dict):
        return all(_same(part, default) for part in value.values())
    if isinstance(value, tuple | list):
        longer = (0, 0) if default is None else default
        if isinstance(longer, int | float):
            return tuple(value) in {(-longer, longer), (longer, longer)}
        return tuple(value) == tuple(longer)
    return bool(value == default)


def _shorten(value: Any) -> str:
    if isinstance(value, dict):
        parts = {name: _shorten(part) for name, part in value.items()}
        return (
            next(iter(parts.values()))
            if len(set(parts.values())) == 1
            else " ".join(f"{n}:{p}" for n, p in parts.items())
        )
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value):
        low, high = value
        return f"{high:g}" if low == high else f"\u00b1{high:g}" if low == -high else f"{low:g}..{high:g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


_MASK: Final = 2**128 - 1


class _Kept(threading.local):
    """numpy's generator of this thread: giving it a state costs a tenth of making another."""

    def __init__(self) -> None:
        self.bits = np.random.PCG64(0)
        self.generator = np.random.Generator(self.bits)
        self.state = self.bits.state


_KEPT: Final = _Kept()


def generators(seed: Sequence[int]) -> tuple[np.random.Generator, random.Random]:
    """A pair of generators for `seed`, non-negative integers; numpy's is valid until the next call in this thread."""
    digest = hashlib.blake2b(",".join(map(str, seed)).encode(), digest_size=48).digest()
    numbers = int.from_bytes(digest, "little")
    state = _KEPT.state
    state["state"] = {"state": numbers & _MASK, "inc": (numbers >> 128) & _MASK | 1}
    _KEPT.bits.state = state
    return _KEPT.generator, random.Random(numbers >> 256)

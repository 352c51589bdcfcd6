"""The only module that imports albumentations and its kernels. It adds the checks that the library lacks."""

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
from lesion_exp.image_file import UInt8Array

Transform: TypeAlias = Any
"""`albumentations.BasicTransform` or `albumentations.BaseCompose`; the library is not typed."""

_SIZE_CHANGING_MODULES: Final = ("albumentations.augmentations.crops.", "albumentations.augmentations.geometric.resize")
_MASK: Final = 2**128 - 1
_translate: Final = albucore.functions.sz.translate


def look_up(values: UInt8Array, table: UInt8Array) -> None:
    """Replaces each of `values`, uint8 in contiguous memory, by its entry in `table`, uint8 (256,).

    It takes a tenth of the time of `cv2.LUT`.
    """
    _translate(values.data, table.data, inplace=True)


class ImageTransform(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Base class of transforms that change the image but not its geometry, and therefore not the mask."""


class GeometricTransform(albumentations.DualTransform):  # type: ignore[misc]
    """Base class of transforms that change the geometry of image and mask alike."""

    _targets = (Targets.IMAGE, Targets.MASK)


def refuse_repairs() -> None:
    """Makes albumentations raise an error for a value that it would otherwise correct with a warning.

    The warning about unknown arguments is silenced, because `check_arguments` raises an error with a suggestion.
    """
    warnings.filterwarnings("error", message=".*(Invalid kernel size range|Range automatically adjusted)")
    warnings.filterwarnings("ignore", message=r"Argument\(s\) .* are not valid for transform")


refuse_repairs()


def walk(transform: Transform, path: str) -> Iterator[tuple[str, Transform]]:
    """Yields `transform` and all transforms inside it, each with its path in the config."""
    yield path, transform
    if isinstance(transform, albumentations.BaseCompose):
        names = getattr(transform, "names", range(len(transform.transforms)))
        for name, inner in zip(names, transform.transforms, strict=True):
            yield from walk(inner, f"{path}.transforms.{name}")


def check_arguments(transform: object, path: str) -> None:
    """Checks that `transform`, at `path` in the config, can be used in a pipeline.

    Raises:
        ConfigError: it is not a transform, it was built with an unknown argument, or its `p` is not a probability.
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
                f"expected {name} at {place} to have a probability p, which its base class sets; begin "
                f"{name}.__init__ with super().__init__(p=p)"
            )
        if not 0 <= part.p <= 1:
            raise ConfigError(f"expected a probability from 0 to 1, got {place}.p={part.p}; 0.5 is usual")
        known = set(_parameters(part)) - {"self", "args", "kwargs"}
        for name in getattr(part, "invalid_args", []):
            raise ConfigError(
                f"expected an argument of {type(part).__name__}, got {place}.{name}; {nearest(name, known)}"
            )


def changes_size(transform: Transform) -> bool:
    """Returns whether `transform`, or a transform inside it, changes the size of an image."""
    return any(
        type(part).__module__.startswith(_SIZE_CHANGING_MODULES) or getattr(part, "changes_size", False)
        for _, part in walk(transform, "")
    )


def describe(transform: Transform) -> str:
    """Returns the transform's name and the arguments that differ from the defaults, on one line."""
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
    """Returns whether an attribute equals a default, which may be in a short form: 0.2 for (-0.2, 0.2), None for 0."""
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


class _ThreadGenerators(threading.local):
    """Reusable generators for each thread. Setting their states takes a fraction of the time of creating them."""

    def __init__(self) -> None:
        self.python_generator = random.Random(0)
        self.bits = np.random.PCG64(0)
        self.generator = np.random.Generator(self.bits)
        self.state = self.bits.state


_GENERATORS: Final = _ThreadGenerators()


def generators(seed: Sequence[int]) -> tuple[np.random.Generator, random.Random]:
    """Returns a generator of numpy and one of Python's `random` for `seed`, a sequence of non-negative integers.

    Both may be used until the next call in the same thread.
    """
    digest = hashlib.blake2b(",".join(map(str, seed)).encode(), digest_size=48).digest()
    numbers = int.from_bytes(digest, "little")
    own = _GENERATORS
    own.state["state"] = {"state": numbers & _MASK, "inc": (numbers >> 128) & _MASK | 1}
    own.bits.state = own.state
    own.python_generator.seed(numbers >> 256)
    return own.generator, own.python_generator

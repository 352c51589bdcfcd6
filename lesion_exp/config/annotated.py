"""Checks the values of a node by the annotations of its target, for nodes that are in no job.

The nodes of a job are checked by their shipped defaults, see `check_values`. Those of a launcher or a search may come
from the ledger of a sweep as well, and have defaults that do not show their type, such as null.
"""

from __future__ import annotations

import collections.abc
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Final

from lesion_exp.config.instantiate import resolve_target
from lesion_exp.config.json_types import parameters
from lesion_exp.config.registered import TARGET
from lesion_exp.errors import ConfigError

_WORDS: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    collections.abc.Sequence: "a list",
    collections.abc.Mapping: "keys with values",
    type(None): "null",
}
_EXAMPLES: Final[Mapping[Any, str]] = {bool: "true", int: "1", float: "1.5"}


def annotations_of(node: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Returns the annotations of the parameters of the target of `node`, which is at the key `place` of a config.

    Raises:
        ConfigError: the target is not registered there, or does not exist.
    """
    return parameters(resolve_target(node[TARGET], place))[0]


def check_annotated(node: Mapping[str, Any], place: str) -> None:
    """Checks that every value of `node` is one that the annotation of its parameter allows.

    Keys that are no parameters are left to `instantiate`.

    Raises:
        ConfigError: the target is not registered at `place`, or a value has another type.
    """
    if TARGET not in node:
        return
    for name, annotation in annotations_of(node, place).items():
        if name in node and not _fits(node[name], annotation):
            kinds = _kinds(annotation)
            example = next((_EXAMPLES[kind] for kind in kinds if kind in _EXAMPLES), None)
            remedy = "correct the value" if example is None else f"for example {place}.{name}={example}"
            words = " or ".join(_WORDS.get(kind, str(kind)) for kind in kinds)
            raise ConfigError(f"expected {place}.{name} to be {words}, got {node[name]!r}; {remedy}")


def is_mapping(annotation: Any) -> bool:
    """Returns whether `annotation` is that of a mapping, to which the user adds keys."""
    return collections.abc.Mapping in _kinds(annotation)


def _kinds(annotation: Any) -> list[Any]:
    """Returns the types of an annotation, without what containers contain, each once and in its order."""
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, types.UnionType}:
        found = [kind for part in typing.get_args(annotation) for kind in _kinds(part)]
        return list(dict.fromkeys(found))
    return [str if origin is typing.Literal else origin or annotation]


def _fits(value: Any, annotation: Any) -> bool:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        return any(_fits(value, part) for part in parts)
    if origin is collections.abc.Sequence:
        return isinstance(value, list | tuple) and all(_fits(one, parts[0]) for one in value)
    if origin is collections.abc.Mapping:
        return isinstance(value, Mapping) and all(_fits(one, parts[1]) for one in value.values())
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = str if origin is typing.Literal else annotation  # the target names the words itself
    return not isinstance(kind, type) or kind not in _WORDS or isinstance(value, kind)

"""The JSON types of config values: from the shipped default, the annotation of a parameter, choices and ranges."""

from __future__ import annotations

import collections.abc
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from lesion_exp.backbone.options import SharedOptions
from lesion_exp.backbone.preprocessing import PLACE, Preprocessing
from lesion_exp.choices import CHOICES, LAST_GROUPS, TUNES
from lesion_exp.config.overrides import is_text
from lesion_exp.config.preprocessing import NATIVE
from lesion_exp.config.schema import (
    ABOVE_ZERO,
    ANY_KIND,
    BETWEEN,
    ENDLESS_KEYS,
    FREE,
    LEAST,
    NEVER_NULL,
    TRAINER_ARGUMENTS,
    TRUTH_VALUES,
    WORDS,
    takes_fraction,
)
from lesion_exp.pretrain import EVERY_PART, PARTS

Schema = dict[str, Any]
REFERENCE: Final[Schema] = {"$ref": "#/$defs/reference"}
DEFINITION_OF_REFERENCE: Final[Schema] = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
"""A reference to another key, `${image_size}`, or `???` for a value that the command must give."""
NULL: Final[Schema] = {"type": "null"}
_SIMPLE: Final[Mapping[Any, Schema]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    type(None): NULL,
}
_NOTHING: Final[Schema] = {"not": {}}
"""The schema of an object of a class, which no YAML can contain."""
_LISTS: Final = (list, tuple, set, collections.abc.Sequence, collections.abc.Collection, collections.abc.Iterable)
_MAPPINGS: Final = (dict, collections.abc.Mapping)
_WORDS_BEFORE: Final = {**WORDS, "image_size": (NATIVE,)}
"""Words that may stand in place of a number, including those that are replaced when a config is composed."""


def of_value(key: str, default: Any, annotation: Any = inspect.Parameter.empty) -> Schema:
    """Returns the schema of a value of the config key `key`, which also accepts `${...}` and `???`.

    It accepts the values that `config/schema.py` accepts. Where that module does not check a value, it accepts the
    values that the annotation of the parameter allows.

    Args:
        key: the key with all its parts, such as `optimizer.lr`.
        default: the shipped value; None and references say nothing about the type.
        annotation: the annotation of the parameter to which the value is passed.
    """
    accepted = _types(key, default, annotation)
    if not accepted:
        return {}
    if key not in NEVER_NULL and key not in CHOICES and _may_be_null(default, annotation):
        accepted.append(NULL)
    return either([*accepted, REFERENCE])


def either(schemas: list[Schema]) -> Schema:
    """Returns a schema that accepts what one of `schemas` accepts."""
    distinct = [schema for number, schema in enumerate(schemas) if schema not in schemas[:number]]
    distinct = [schema for schema in distinct if schema != _NOTHING] or distinct
    if {} in distinct:
        return {}
    flat = [part for schema in distinct for part in (schema["anyOf"] if set(schema) == {"anyOf"} else [schema])]
    flat = [schema for number, schema in enumerate(flat) if schema not in flat[:number]]
    if _SIMPLE[str] in flat:
        flat = [schema for schema in flat if schema != REFERENCE]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def of_annotation(annotation: Any) -> Schema:
    """Returns the schema of the values that `annotation` allows; it accepts everything if they are not known."""
    if annotation in _SIMPLE:
        return dict(_SIMPLE[annotation])
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return of_annotation(arguments[0])
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in {typing.Union, types.UnionType}:
        # typing remembers unions, so that the order of Union[int, float] is that of whoever wrote it first
        return either([of_annotation(argument) for argument in sorted(arguments, key=_order)])
    if (origin or annotation) in _LISTS:
        inner = [of_annotation(argument) for argument in arguments if argument is not Ellipsis]
        items = either(inner) if inner else {}
        return {"type": "array", "items": {} if items in ({}, _NOTHING) else either([items, REFERENCE])}
    if (origin or annotation) in _MAPPINGS:
        return {"type": "object"}
    return dict(_NOTHING) if isinstance(annotation, type) and annotation is not inspect.Parameter.empty else {}


def _order(annotation: Any) -> tuple[bool, str]:
    return annotation is type(None), repr(annotation)


def of_parameter(annotation: Any) -> Schema:
    """Returns the schema of the value of a parameter with `annotation`, which also accepts `${...}` and `???`."""
    said = of_annotation(annotation)
    return either([said, REFERENCE]) if said not in ({}, _NOTHING) else {}


def parameters(target: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Returns the annotations of the parameters of `target` by name, and whether it takes any others."""
    signature = inspect.signature(target)
    constructor: Any = inspect.getattr_static(target, "__init__") if isinstance(target, type) else target
    known = {**vars(sys.modules[target.__module__]), **getattr(inspect.unwrap(constructor), "__globals__", {})}
    found = {
        name: _evaluated(parameter.annotation, known)
        for name, parameter in signature.parameters.items()
        if parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}
    }
    return found, any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def _evaluated(annotation: Any, known: Mapping[str, Any]) -> Any:
    """Returns an annotation that may be text; empty if it names something that is imported for type checkers alone."""
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(holder, globalns=dict(known), include_extras=True)["value"]
    except (NameError, TypeError, AttributeError):
        return inspect.Parameter.empty


def shared_annotations() -> dict[str, Any]:
    """Returns the annotations of keys that are not parameters of a target: of every backbone, and of the Trainer."""
    import pytorch_lightning as pl

    found = {f"backbone.{name}": hint for name, hint in typing.get_type_hints(SharedOptions).items()}
    of_trainer, _ = parameters(pl.Trainer)
    return found | {f"trainer.{name}": of_trainer[name] for name in TRAINER_ARGUMENTS}


def is_free(key: str) -> bool:
    """Returns whether the user names the entries of the node `key`."""
    return key.startswith(FREE)


def preprocessing_of_weights() -> Schema:
    """Returns the schema of `backbone.preprocessing`."""
    hints = typing.get_type_hints(Preprocessing)
    known = {
        entry.name: of_value(f"{PLACE}.{entry.name}", entry.default, hints[entry.name])
        for entry in fields(Preprocessing)
    }
    return either([NULL, {"type": "object", "properties": known, "additionalProperties": False}])


def _types(key: str, default: Any, annotation: Any) -> list[Schema]:
    """Returns schemas of which a value has to satisfy one; none if everything is accepted."""
    said = {} if annotation is inspect.Parameter.empty else of_annotation(annotation)
    said = {} if said == _NOTHING else said
    words: list[Schema] = [{"enum": list(_WORDS_BEFORE[key])}] if key in _WORDS_BEFORE else []
    if key == "backbone.tune":
        return [{"enum": list(TUNES[:-1])}, {"type": "string", "pattern": f"^{LAST_GROUPS}[0-9]+$"}]
    if key == "pretrain.parts":
        return [{"enum": [*PARTS, EVERY_PART]}, {"type": "array", "items": {"enum": list(PARTS)}}]
    if key in CHOICES:
        return [{"enum": [*CHOICES[key], *([None] if default is None else [])]}]
    if key in ANY_KIND:
        return _of_any_kind(key, default, said, words)
    if words:
        return [*words, _beside_words(key)]
    literals = _literals(said)
    if literals:
        return literals
    if default is None or (isinstance(default, str) and ("${" in default or default == "???")):
        if key in LEAST or key in ABOVE_ZERO or key in BETWEEN:
            return [_bounded(key, {"type": "number"})]
        if not said and is_text(key):
            return [{"type": ["string", "number", "boolean"]}]
        return [said] if said else []
    if isinstance(default, list):
        return [said] if said.get("type") == "array" else [{"type": "array"}]
    kind = dict(_SIMPLE.get(type(default), {}))
    if kind == {"type": "integer"} and takes_fraction(key):
        kind = {"type": "number"}
    if not kind:
        return []
    return [_bounded(key, kind)] + ([{"const": -1}] if key in ENDLESS_KEYS else [])


def _of_any_kind(key: str, default: Any, said: Schema, words: list[Schema]) -> list[Schema]:
    """Returns the schemas of a key whose default does not show its type: those of its parameter, and its words."""
    if key in LEAST:
        return [_bounded(key, {"type": "number"})]
    if not said:
        return []
    parts = said.get("anyOf", [said])
    if words:
        return [*words, *(part for part in parts if part.get("type") != "string")]
    is_new = isinstance(default, str) and {"type": "string"} not in parts
    return [
        *parts,
        *([{"const": default}] if is_new and not any(default in part.get("enum", ()) for part in parts) else []),
    ]


def _literals(said: Schema) -> list[Schema]:
    """Returns the parts of a schema that lists values, unless it accepts every text beside them."""
    parts = said.get("anyOf", [said])
    texts = any(part.get("type") == "string" for part in parts)
    return parts if any("enum" in part for part in parts) and not texts else []


def _beside_words(key: str) -> Schema:
    if key in TRUTH_VALUES:
        return {"type": "boolean"}
    return _bounded(key, {"type": "number"}) if key in LEAST else {"type": "boolean"}


def _bounded(key: str, kind: Schema) -> Schema:
    if key in LEAST:
        return {**kind, "minimum": LEAST[key]}
    if key in ABOVE_ZERO:
        return {**kind, "exclusiveMinimum": 0}
    if key in BETWEEN:
        return {**kind, "exclusiveMinimum": BETWEEN[key][0], "exclusiveMaximum": BETWEEN[key][1]}
    return kind


def _may_be_null(default: Any, annotation: Any) -> bool:
    if default is None or annotation is inspect.Parameter.empty:
        return True
    said = of_annotation(annotation)
    return not said or NULL in said.get("anyOf", [said])

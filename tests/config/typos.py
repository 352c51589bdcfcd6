"""Typing errors in the shipped YAMLs, made without any knowledge of their schemas, for tests of these."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lesion_exp.config.option_tree import load_yaml
from lesion_exp.config.schema import ABOVE_ZERO, LEAST
from lesion_exp.config.shipped_conf import comments_of_file

KINDS = ("misspelt key", "wrong type", "outside of the choices", "wrong level")
NAMED_BY_USERS = ("transforms", "preprocess", "tags", "space")
"""Nodes whose keys may be any names."""
DEFAULTS = "defaults"
# What looks like a mistake and is none:
TAKE_LISTS = ("devices",)
TAKE_MAPPINGS = ("scale", "shear", "translate_percent", "rotate")
"""Parameters of albumentations' Affine, of which each axis may have its own value."""
TAKE_ANY_TEXT = ("weights", "address")
"""Keys whose comment lists words among which a path or an address may stand."""
BOTH_LEVELS_HAVE_IT = (("early_stopping", "monitor"),)
BOTH_HAVE_IT = (("augmentation", "image_size"),)


class Typo(NamedTuple):
    """A shipped YAML with one mistake."""

    path: Path
    kind: str
    what: str
    content: Any


def all_typos(paths: list[Path], seed: int) -> list[Typo]:
    """Every place of the files with one mistake of each kind that is possible there; `seed` draws how it looks."""
    rng = random.Random(seed)
    return [typo for path in paths for typo in _typos(path, rng)]


def _typos(path: Path, rng: random.Random) -> Iterator[Typo]:
    content = load_yaml(path)
    comments = comments_of_file(path)
    is_metrics = path.parent.name == "metrics"
    known = {place[-1] for place, _ in _walk(content)}
    for place, value in _walk(content):
        named_by_users = (len(place) > 1 and place[-2] in NAMED_BY_USERS) or (is_metrics and len(place) == 1)
        if not named_by_users and not is_metrics:  # torchmetrics' classes take any keyword
            wrong = _misspelt(place[-1], rng, known)
            yield Typo(path, KINDS[0], f"{'.'.join(place)} -> {wrong}", _with_key(content, place, wrong))
        for kind, wrong in _wrong_values(path, place, value, comments.get(".".join(place), ""), rng):
            yield Typo(path, kind, f"{'.'.join(place)}: {value!r} -> {wrong!r}", _with_value(content, place, wrong))
        yield from _moved(path, content, place, value)
    yield from _wrong_defaults(path, content, rng)


def _walk(node: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in node.items() if isinstance(node, dict) else ():
        if not place and key == DEFAULTS:
            continue
        yield (*place, key), value
        yield from _walk(value, (*place, key))


def _wrong_values(
    path: Path, place: tuple[str, ...], value: Any, comment: str, rng: random.Random
) -> Iterator[tuple[str, Any]]:
    group = path.parent.name
    key = ".".join(place if group in {"conf", "experiment", "debug"} else (group, *place))
    if place[-1] == "_target_":
        module, _, name = value.rpartition(".")
        yield KINDS[2], f"{module}.{_misspelt(name, rng, {name})}"
        yield KINDS[1], 3
        return
    if isinstance(value, str) and ("${" in value or value == "???"):
        return
    if isinstance(value, bool | int | float):
        yield KINDS[1], "abc"
    elif isinstance(value, list) and place[-1] not in TAKE_MAPPINGS and "space" not in place:
        yield KINDS[1], {"abc": 1}
    elif isinstance(value, str) and place[-1] not in TAKE_LISTS:
        yield KINDS[1], [1, 2]
    elif isinstance(value, dict) and value:
        yield KINDS[1], 3
    listed = re.match(rf"{_CHOICES}", comment)
    if (
        isinstance(value, str)
        and listed
        and place[-1] not in TAKE_ANY_TEXT
        and value in re.split(r" \| |: [^|]*(?: \| |$)", listed[0])
    ):
        yield KINDS[2], _misspelt(value, rng, {value})
    if key in LEAST:
        yield KINDS[2], LEAST[key] - 3
    if key in ABOVE_ZERO:
        yield KINDS[2], 0.0


_CHOICES = r"\w+( \| \w+)+"


def _moved(path: Path, content: dict[str, Any], place: tuple[str, ...], value: Any) -> Iterator[Typo]:
    """The key one level higher, or inside the node of a neighbour."""
    if len(place) > 1 and place[-2] not in NAMED_BY_USERS and place[0] not in NAMED_BY_USERS:
        if path.parent.name == "metrics":
            return
        above = _get(content, place[:-2])
        if place[-1] not in above and place[-2:] not in BOTH_LEVELS_HAVE_IT and place[-2:-1] != ("space",):
            changed = _without(content, place)
            _get(changed, place[:-2])[place[-1]] = value
            yield Typo(path, KINDS[3], f"{'.'.join(place)} one level higher", changed)
    if path.parent.name == "metrics":
        return
    beside = _get(content, place[:-1])
    for name, node in beside.items():
        inside = isinstance(node, dict) and node and name != place[-1] and (name, place[-1]) not in BOTH_HAVE_IT
        if inside and name not in NAMED_BY_USERS and place[-1] not in node and place[-1] not in {"_target_", DEFAULTS}:
            changed = _without(content, place)
            _get(changed, (*place[:-1], name))[place[-1]] = value
            yield Typo(path, KINDS[3], f"{'.'.join(place)} inside of {name}", changed)
            break


def _wrong_defaults(path: Path, content: dict[str, Any], rng: random.Random) -> Iterator[Typo]:
    for number, entry in enumerate(content.get(DEFAULTS, ())):
        if isinstance(entry, str):
            wrong: Any = _misspelt(entry, rng, {entry})
            yield Typo(path, KINDS[2], f"defaults: {entry} -> {wrong}", _with_default(content, number, wrong))
            continue
        [(group, option)] = entry.items()
        if option is not None:
            wrong = {group: _misspelt(option, rng, {option})}
            yield Typo(path, KINDS[2], f"defaults: {entry} -> {wrong}", _with_default(content, number, wrong))
        name = re.sub(r"\w+$", lambda match: _misspelt(match[0], rng, {match[0]}), group.partition("@")[0])
        wrong = {name + group.removeprefix(group.partition("@")[0]): option}
        yield Typo(path, KINDS[0], f"defaults: {entry} -> {wrong}", _with_default(content, number, wrong))


def _misspelt(word: str, rng: random.Random, known: set[str]) -> str:
    """`word` with two letters exchanged, one left out, or one doubled, so that it is none of `known`."""
    for _ in range(50):
        at = rng.randrange(max(len(word) - 1, 1))
        wrong = rng.choice(
            [word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :], word[:at] + word[at + 1 :],
             word[: at + 1] + word[at:]]
        )  # fmt: skip
        if wrong and wrong != word and wrong not in known:
            return wrong
    return f"{word}x"


def _get(node: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        node = node[key]
    return node


def _with_key(content: Any, place: tuple[str, ...], key: str) -> Any:
    changed = copy.deepcopy(content)
    node = _get(changed, place[:-1])
    pairs = [(key if name == place[-1] else name, value) for name, value in node.items()]
    node.clear()
    node.update(pairs)
    return changed


def _with_value(content: Any, place: tuple[str, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    _get(changed, place[:-1])[place[-1]] = value
    return changed


def _without(content: Any, place: tuple[str, ...]) -> Any:
    changed = copy.deepcopy(content)
    del _get(changed, place[:-1])[place[-1]]
    return changed


def _with_default(content: Any, number: int, entry: Any) -> Any:
    changed = copy.deepcopy(content)
    changed[DEFAULTS][number] = entry
    return changed

"""The options of a verb, each declared once: as a field of a dataclass, with its type, default, choices and meaning.

The options of a verb are the fields of its dataclasses that are made by `option`. From them the command line is parsed,
the help and the reference are written, and values from Python code are checked. This module and the
modules that declare options import nothing heavy, so that `--help` and messages about typing errors appear at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lesion_exp.errors import ConfigError, did_you_mean

_OPTION: Final = "option"
TRUTHS: Final = {"true": True, "false": False}
REQUIRED: Final = dataclasses.MISSING


@dataclass(frozen=True)
class Kind:
    """The kind of value that an option accepts; this class accepts any text.

    Args:
        placeholder: shown instead of a value in the help, such as `FILE`.
        example: a value that can be typed.
        noun: what the text means, such as `a run`.
    """

    placeholder: str = "TEXT"
    example: str = ""
    noun: str = "a text"

    @property
    def expected(self) -> str:
        """The accepted values, as a text that follows `expected KEY to be`."""
        return self.noun

    def read(self, text: str) -> Any:
        """Returns the value that `text` represents.

        Raises:
            ValueError: `text` represents no value of this kind.
        """
        return text

    def accepts(self, value: Any) -> bool:
        """Returns whether `value` is valid, from the command line or from Python code."""
        return isinstance(value, str) and bool(value)

    def nearest(self, value: Any) -> str:
        """Returns the end of a message about the invalid `value`: the valid values that resemble it."""
        return ""


@dataclass(frozen=True)
class Choice(Kind):
    """A choice of one of `values`.

    Args:
        values: the texts that are accepted.
        path_too: whether Python code may give a path instead of one of them.
    """

    values: tuple[str, ...] = ()
    path_too: bool = False

    @property
    def expected(self) -> str:
        """See `Kind`."""
        return either(self.values)

    def accepts(self, value: Any) -> bool:
        """See `Kind`."""
        return value in self.values or (self.path_too and isinstance(value, Path))

    def nearest(self, value: Any) -> str:
        """See `Kind`."""
        return did_you_mean(str(value), self.values)


def choice(values: Sequence[str], *, path_too: bool = False) -> Choice:
    """Returns the kind of an option that is one of `values`; the first of them is the example."""
    return Choice("NAME", values[0], values=tuple(values), path_too=path_too)


@dataclass(frozen=True)
class Truth(Kind):
    """A truth value, `true` or `false`."""

    placeholder: str = "true"
    example: str = "true"

    @property
    def expected(self) -> str:
        """See `Kind`."""
        return either(tuple(TRUTHS))

    def read(self, text: str) -> bool:
        """See `Kind`."""
        if text not in TRUTHS:
            raise ValueError(text)
        return TRUTHS[text]

    def accepts(self, value: Any) -> bool:
        """See `Kind`."""
        return isinstance(value, bool)


@dataclass(frozen=True)
class Number(Kind):
    """A finite number within bounds.

    Args:
        least: the smallest value.
        most: the largest value.
        above: whether `least` itself is too small.
        whole: whether the number must be whole.
        words: texts that are accepted as well.
    """

    placeholder: str = "N"
    example: str = "1"
    least: float = 0
    most: float = math.inf
    above: bool = False
    whole: bool = False
    words: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """See `Kind`."""
        kind = "a whole number" if self.whole else "a number"
        if self.most < math.inf:
            bounds = f"from {self.least:g} to {self.most:.0f}"
        else:
            bounds = f"above {self.least:g}" if self.above else f"of at least {self.least:g}"
        return either((f"{kind} {bounds}", *self.words))

    def read(self, text: str) -> float | str:
        """See `Kind`."""
        if text in self.words:
            return text
        return int(text) if self.whole else float(text)

    def accepts(self, value: Any) -> bool:
        """See `Kind`."""
        if isinstance(value, str):
            return value in self.words
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return math.isfinite(value) and self.least <= value <= self.most and not (self.above and value == self.least)

    def nearest(self, value: Any) -> str:
        """See `Kind`."""
        return did_you_mean(str(value), self.words)


def whole(least: int = 1, most: float = math.inf, example: str = "4", words: tuple[str, ...] = ()) -> Number:
    """Returns the kind of an option that is a whole number from `least` to `most`."""
    return Number(example=example, least=least, most=most, whole=True, words=words)


@dataclass(frozen=True)
class Place(Kind):
    """The path of a file or a folder; `~` stands for the user's home.

    Args:
        what: `file`, `folder`, or `path` for either. A file is refused as a folder, and a folder as a file; a path
            that does not exist is accepted.
        suffixes: the endings that a file may have; empty: any ending.
    """

    placeholder: str = "PATH"
    what: str = "path"
    suffixes: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """See `Kind`."""
        return f"a {self.what}" + (f" that ends in {either(self.suffixes)}" if self.suffixes else "")

    def read(self, text: str) -> Path:
        """See `Kind`."""
        return Path(text).expanduser()

    def accepts(self, value: Any) -> bool:
        """See `Kind`."""
        if not isinstance(value, Path):
            return False
        is_other = {"file": value.is_dir, "folder": value.is_file}.get(self.what, lambda: False)
        return not is_other() and (not self.suffixes or value.suffix.lower() in self.suffixes)


def folder(example: str = "DIR") -> Place:
    """Returns the kind of an option that is a folder."""
    return Place("DIR", example, what="folder")


def file(example: str, *suffixes: str) -> Place:
    """Returns the kind of an option that is a file, with one of `suffixes` as its ending if there are any."""
    return Place(f"FILE{suffixes[0]}" if len(suffixes) == 1 else "FILE", example, what="file", suffixes=suffixes)


@dataclass(frozen=True)
class Names(Kind):
    """Several names, separated by commas, with or without brackets."""

    placeholder: str = "A,B"

    @property
    def expected(self) -> str:
        """See `Kind`."""
        return "names separated by commas"

    def read(self, text: str) -> tuple[str, ...]:
        """See `Kind`."""
        return tuple(listed(text))

    def accepts(self, value: Any) -> bool:
        """See `Kind`."""
        return isinstance(value, tuple) and all(isinstance(name, str) and name for name in value)


@dataclass(frozen=True)
class NamePairs(Kind):
    """Pairs of names, as in YAML: `{a: b, c: d}`."""

    placeholder: str = "'{NAME: NAME}'"

    @property
    def expected(self) -> str:
        """See `Kind`."""
        return "pairs of names in braces"

    def read(self, text: str) -> Any:
        """See `Kind`."""
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(text) from error

    def accepts(self, value: Any) -> bool:
        """See `Kind`."""
        return isinstance(value, Mapping) and all(isinstance(name, str) for pair in value.items() for name in pair)


@dataclass(frozen=True)
class KeyValues(NamePairs):
    """Values of keys, as in YAML: `{optimizer.lr: 0.001, loss: focal}`. Each value stays the text that was typed."""

    placeholder: str = "'{KEY: VALUE}'"

    @property
    def expected(self) -> str:
        """See `Kind`."""
        return "values of keys in braces"

    def read(self, text: str) -> Any:
        """See `Kind`."""
        import yaml

        try:
            return yaml.load(text, Loader=yaml.BaseLoader)
        except yaml.YAMLError as error:
            raise ValueError(text) from error


@dataclass(frozen=True)
class Thresholds(Kind):
    """A probability above 0, or one for each of several names, as in YAML: `{a: 0.9, b: 0.95}`.

    Args:
        rules: words that may stand in place of a probability of a name.
        by_class: whether the value must name classes.
    """

    placeholder: str = "P"
    example: str = "0.95"
    rules: tuple[str, ...] = ()
    by_class: bool = False

    @property
    def expected(self) -> str:
        """See `Kind`."""
        if self.by_class:
            return f"a number above 0 and up to 1, or {either(self.rules)}, for each class, such as {{mel: 0.3}}"
        return "a number above 0 and up to 1, or one for each class such as {mel: 0.95, nv: 0.99}"

    def read(self, text: str) -> Any:
        """See `Kind`."""
        return NamePairs().read(text) if text.startswith("{") else float(text)

    def accepts(self, value: Any) -> bool:
        """See `Kind`."""
        values = list(value.values()) if isinstance(value, Mapping) else [value]
        names = list(value) if isinstance(value, Mapping) else []
        if self.by_class and not isinstance(value, Mapping):
            return False
        return bool(values) and all(map(self._accepts_one, values)) and all(isinstance(name, str) for name in names)

    def _accepts_one(self, value: Any) -> bool:
        if isinstance(value, str):
            return value in self.rules
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


@dataclass(frozen=True)
class Devices(Kind):
    """A number of devices, a list of their indices, or `auto`."""

    placeholder: str = "N"
    example: str = "2"

    @property
    def expected(self) -> str:
        """See `Kind`."""
        return "a whole number of at least 1, a list such as [0,1], or auto"

    def read(self, text: str) -> int | list[int] | str:
        """See `Kind`."""
        if text == "auto":
            return text
        return [int(part) for part in listed(text)] if text.startswith("[") else int(text)

    def accepts(self, value: Any) -> bool:
        """See `Kind`."""
        if isinstance(value, list):
            return bool(value) and all(_is_whole(index) and index >= 0 for index in value)
        return value == "auto" or (_is_whole(value) and value > 0)


def _is_whole(value: Any) -> bool:
    """Whether `value` is a whole number; true and false are none, although Python counts them as 1 and 0."""
    return isinstance(value, int) and not isinstance(value, bool)


def listed(text: str) -> list[str]:
    """Returns the parts of `a,b` or `[a,b]`."""
    return [part.strip() for part in text.removeprefix("[").removesuffix("]").split(",")]


def either(values: Sequence[str]) -> str:
    """Returns `values` as words: `a, b or c`."""
    return " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))


@dataclass(frozen=True)
class Option:
    """A key of a verb: `KEY=VALUE` on the command line, and a field of a dataclass."""

    field: str
    """The name of the field."""
    key: str
    """Its name on the command line."""
    kind: Kind
    meaning: str
    default: Any
    """`REQUIRED` if a value must be given; None if the meaning says what happens without a value."""

    @property
    def is_required(self) -> bool:
        """Whether a value must be given."""
        return self.default is REQUIRED

    @property
    def example(self) -> str:
        """The key with a value that can be typed."""
        return f"{self.key}={self.kind.example}"

    @property
    def written_default(self) -> str | None:
        """The default as on the command line; None if there is none."""
        if self.is_required or self.default is None or self.default == () or self.default == {}:
            return None
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def read(self, text: str) -> Any:
        """Returns the value of `KEY=text`.

        Raises:
            ConfigError: the option does not accept the value.
        """
        try:
            value = self.kind.read(text)
        except ValueError as error:
            raise self._refused(text) from error
        if not self.kind.accepts(value):
            raise self._refused(text)
        return value

    def check(self, value: Any) -> None:
        """Checks a value from Python code.

        Raises:
            ConfigError: the option does not accept the value.
        """
        if value is None and self.default is None:
            return
        is_default = value == self.default and isinstance(value, bool) == isinstance(self.default, bool)
        if not is_default and not self.kind.accepts(value):
            raise self._refused(value)

    def _refused(self, value: Any) -> ConfigError:
        shown = repr(value) if isinstance(value, str) else value
        remedy = self.kind.nearest(value) or ("" if isinstance(self.kind, Choice) else f"; for example {self.example}")
        return ConfigError(f"expected {self.key} to be {self.kind.expected}, got {shown}{remedy}")


def option(
    default: Any,
    kind: Kind,
    meaning: str,
    *,
    key: str | None = None,
    repr: bool = True,  # noqa: A002
) -> Any:
    """Returns a field of a dataclass that is an option of a verb.

    Args:
        default: the value if none is given; `REQUIRED` if a value must be given.
        kind: the values that the option accepts.
        meaning: one line for the help, with the unit of a quantity.
        key: the name of the option on the command line; None is the name of the field.
        repr: whether the `repr` of the object shows the value.
    """
    metadata = {_OPTION: (key, kind, meaning)}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata, repr=repr)
    return field(default=default, metadata=metadata, repr=repr)


def options_of(declaration: type) -> Iterator[Option]:
    """Yields the options that a dataclass declares, in the order of its fields."""
    for entry in dataclasses.fields(declaration):
        if _OPTION in entry.metadata:
            key, kind, meaning = entry.metadata[_OPTION]
            factory = entry.default_factory
            default = entry.default if factory is dataclasses.MISSING else factory()
            yield Option(entry.name, key or entry.name, kind, meaning, default)


def check_options(given: Any) -> None:
    """Checks the value of every option of `given`, an object of a dataclass that declares options.

    Raises:
        ConfigError: an option does not accept its value.
    """
    for one in options_of(type(given)):
        one.check(getattr(given, one.field))

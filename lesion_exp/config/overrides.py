"""Parses the overrides of a command in Hydra's grammar, and checks the names in them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from hydra.core.override_parser.overrides_parser import KEY_RULES, OverridesParser
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import Key, Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import (  # type: ignore[attr-defined]
    CommonTokenStream,
    InputStream,
    OverrideLexer,
)
from hydra.grammar.gen.OverrideParser import OverrideParser
from omegaconf import DictConfig, OmegaConf

from lesion_exp.config.habits import better_hint
from lesion_exp.config.schema import TRAINER_ARGUMENTS
from lesion_exp.config.shipped_conf import default_options, option_names
from lesion_exp.errors import ConfigError, did_you_mean, nearest
from lesion_exp.privacy import redacted
from lesion_exp.terminal import shell_words

log = logging.getLogger(__name__)

TAGS: Final = "tags"
TEXTS: Final = (
    TAGS,
    "backbone.name",
    "backbone.weights",
    "dataset.columns",
    "dataset.encoding",
    "dataset.filter",
    "dataset.image_suffix",
    "dataset.images",
    "dataset.labels",
    "dataset.lesion_pattern",
    "dataset.name",
    "dataset.one_hot",
    "dataset.root",
    "dataset.table",
    "dataset.pseudo_labels",
    "launcher.address",
    "launcher.partition",
    "loss.teacher",
    "loss.teacher_weights",
    "paths",
    "split.path",
    "tracking.experiment",
    "tracking.run_name",
    "tracking.uri",
    "trainer.early_stopping.monitor",
    "trainer.monitor",
)
"""Keys, and nodes of keys, whose values are text: 007, 1.10 and 12e4567 are not numbers there."""
_BRACKETS: Final = {"[": "]", "{": "}", "(": ")"}
_SHORT_PATH: Final = re.compile(r"(?<![\w.~\-'\"/])~[^\s,'\"\[\]{}()]*")
"""A path that begins with `~`, in a value with brackets."""
_NUMBERS: Final = (OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL)
OPEN_NODES: Final = ("tags", "trainer", "search.space", "metrics")
"""Nodes to which users add keys: any to `tags` and `metrics`, arguments of Lightning's Trainer to `trainer`."""
FREE_MAPPINGS: Final = ("sets", "columns", "labels", "class_shares")
"""Keys of a data set that are mappings with names of the user's choice."""


class OptionNames(Protocol):
    """Lists the options of a group for Hydra's parser."""

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        """Returns the names of the options."""


def parse_overrides(overrides: Sequence[str], options: OptionNames | None = None) -> list[Override]:
    """Parses overrides in Hydra's grammar; `options` lists the options for `GROUP=glob(..)` in a sweep.

    Raises:
        ConfigError: a text is not an override; the message says how to quote it.
    """
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(f"expected an override KEY=VALUE or GROUP=OPTION, got {text!r}; for example seed=1")
    try:
        parsed: list[Override] = TextParser.create(options).parse_overrides(list(overrides))  # type: ignore[arg-type]
    except HydraException as error:
        wrong = _unreadable(overrides)
        if closed := _with_closed_brackets(wrong):
            raise ConfigError(
                f"expected overrides in Hydra's grammar, got {wrong}, in which a bracket is not closed; close it: "
                f"{closed}"
            ) from error
        raise ConfigError(
            f"expected overrides in Hydra's grammar, got {wrong}; quote a value that contains blanks, commas, "
            f"brackets, parentheses, colons or backslashes, and once more for the shell: {_with_quotes(wrong)}"
        ) from error
    return parsed


def _with_quotes(text: str) -> str:
    """Returns the override `text` with its value quoted, as it can be typed; an example if quotes are not enough."""
    key, _, value = text.partition("=")
    quoted_value = _quoted_value(value)
    if quoted_value is not None and _can_be_parsed(f"{key}={quoted_value}"):
        return shell_words([f"{key}={quoted_value}"])
    return "'dataset.filter=\"age > 0\"'"


def _with_closed_brackets(text: str) -> str | None:
    """Returns the override `text` with the missing closing brackets, as it can be typed.

    The result is None if the value does not begin with a bracket, if no bracket is missing, or if closing them is not
    enough. A value of `TAGS` is text, whatever its brackets.
    """
    key, _, value = text.partition("=")
    missing = _missing_brackets(value)
    if not value.startswith(tuple(_BRACKETS)) or not missing or key.lstrip("+").startswith(f"{TAGS}."):
        return None
    closed = f"{value}{missing}"
    candidates = (closed, _quoted_value(closed)) if value.startswith("(") else (closed,)
    return next((shell_words([word]) for each in candidates if each and _can_be_parsed(word := f"{key}={each}")), None)


def _missing_brackets(value: str) -> str:
    """Returns the brackets that close the open ones at the end of `value`; none if they are closed in a wrong order."""
    missing: list[str] = []
    for sign in re.sub(r"'[^']*'|\"[^\"]*\"", "", value):
        if sign in _BRACKETS:
            missing.append(_BRACKETS[sign])
        elif sign in _BRACKETS.values() and (not missing or missing.pop() != sign):
            return ""
    return "".join(reversed(missing))


def _quoted_value(value: str) -> str | None:
    """Returns `value` in quotes that do not occur in it; None if both kinds of quotes do."""
    kinds = (('"', Quote.double), ("'", Quote.single))
    return next((QuotedString(value, quote).with_quotes() for mark, quote in kinds if mark not in value), None)


def _can_be_parsed(text: str) -> bool:
    try:
        TextParser.create().parse_overrides([text])
    except HydraException:
        return False
    return True


def _unreadable(overrides: Sequence[str]) -> str:
    """Returns the first override that cannot be parsed by itself."""
    return next((text for text in overrides if not _can_be_parsed(text)), " ".join(overrides))


class TextParser(OverridesParser):
    """Hydra's parser of overrides, which leaves the values of `TEXTS` as they were written."""

    def parse_rule(self, s: str, rule_name: str) -> Any:
        """See the base class; this is a copy of its method with another visitor."""
        listener = HydraErrorListener()
        lexer = OverrideLexer(InputStream(s))
        parser = OverrideParser(CommonTokenStream(lexer))
        if rule_name not in KEY_RULES:
            lexer.mode(OverrideLexer.VALUE_MODE)
        for part in (lexer, parser):
            part.removeErrorListeners()
            part.addErrorListener(listener)
        found = _TextVisitor(self.functions).visit(getattr(parser, rule_name)())
        if isinstance(found, Override):
            found.input_line = s
            found.validate()
        return found


class _TextVisitor(HydraOverrideVisitor):
    key = ""

    def visitKey(self, ctx: Any) -> Key:  # noqa: N802
        key = super().visitKey(ctx)
        self.key = str(key.key_or_group)
        return key

    def visitElement(self, ctx: Any) -> Any:  # noqa: N802
        if self.key.startswith(f"{TAGS}.") and (ctx.listContainer() or ctx.dictContainer()):
            return ctx.start.getInputStream().getText(ctx.start.start, ctx.stop.stop).strip()
        return super().visitElement(ctx)

    def visitPrimitive(self, ctx: Any) -> Any:  # noqa: N802
        return self._written(ctx)

    def visitDictKey(self, ctx: Any) -> Any:  # noqa: N802
        return self._written(ctx)

    def _written(self, ctx: Any) -> Any:
        """Returns the value of a primitive; if the values of the key are text, as it was written."""
        if is_text(self.key):
            kinds = (*_NUMBERS, OverrideLexer.NULL) if self.key.startswith(f"{TAGS}.") else _NUMBERS
            (token, *further) = [node for node in ctx.getChildren() if not self.is_ws(node)] or [None]
            if not further and token is not None and token.symbol.type in kinds:
                return token.symbol.text
        return self._createPrimitive(ctx)


def is_text(key: str) -> bool:
    """Returns whether the values of `key` are text."""
    return any(key == text or key.startswith(f"{text}.") for text in TEXTS)


def quoted(text: str) -> str:
    """Returns `text`, whatever its characters, quoted as a value in Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def literal(text: str) -> str:
    """Returns `text` with every `${` escaped, so that it is not a reference in a config."""
    before, *after = text.split("${")
    for piece in after:
        slashes = len(before) - len(before.rstrip("\\"))
        before = f"{before}{slashes * chr(92)}\\${{{piece}"
    return before


def stored_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns `overrides` as they may be stored: `redacted`, and so that they can be typed again.

    Hydra's grammar has no `~` in a value without quotes, so a path that begins with the home folder gets them.
    """
    return [_with_quoted_home(text, redacted(text)) for text in overrides]


def _with_quoted_home(text: str, short: str) -> str:
    """Returns `short`, which has `~` for the home folder in `text`, with quotes where it cannot be parsed without."""
    key, _, value = short.partition("=")
    if short == text or _can_be_parsed(short):
        return short
    inside = _SHORT_PATH.sub(r'"\g<0>"', value)  # within brackets each path is a value
    words = [inside] if value.startswith(tuple(_BRACKETS)) else [_quoted_value(value), inside]
    return next((f"{key}={word}" for word in words if word is not None and _can_be_parsed(f"{key}={word}")), short)


def refuse_sweeps(parsed: Sequence[Override]) -> None:
    """Checks that every override has one value.

    Raises:
        ConfigError: an override has several values.
    """
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(
                f"expected one value for {override.key_or_group}, got several ({override.input_line}); add -m to try "
                f"them all in a sweep, or write a list as {override.key_or_group}=[a,b]"
            )


def warn_doubled(parsed: Sequence[Override]) -> None:
    """Warns of each override that a later one of the same key replaces.

    The last one counts, as everywhere in Hydra; scripts that append their own overrides rely on it.
    """
    last: dict[str, Override] = {}
    for override in parsed:
        key = f"{override.key_or_group}@{override.package}"
        if key in last:
            log.warning("%s does not count: %s comes after it", last[key].input_line, override.input_line)
        last[key] = override


def check_names(override: Override, folders: Sequence[Path], groups: Sequence[str]) -> None:
    """Checks that the group and the option of `GROUP=OPTION`, or the first part of a key, exist in `folders`.

    `groups` are the config groups of `folders`.

    Raises:
        ConfigError: a name does not exist; the message says which names are similar.
    """
    key, value = str(override.key_or_group), override.value()
    top = [*default_options(folders[0]), *_top_level(folders[0])]
    if key in groups:
        options = option_names(key, folders)
        if override.is_add() and key in top:
            raise ConfigError(
                f"expected no plus before {key}={value}, because the config has the group {key} already; write "
                f"{key}={value}"
            )
        if (override.is_delete() or value is None) and key in top:
            raise ConfigError(
                f"expected one of the options of {key}, got {override.input_line}; leave it out for the default\n"
                f"options: {', '.join(options)}"
            )
        if isinstance(value, list):
            raise ConfigError(
                f"expected one option of {key}, got {override.input_line}; several data sets together are "
                f"dataset=combined dataset.sets={{NAME: DIR, NAME: DIR}}"
            )
        if isinstance(value, str) and value not in options:
            raise ConfigError(
                f"expected one of the options of {key}, got {key}={value}{did_you_mean(value, options)}\n"
                f"options: {', '.join(options)}\n"
                f"{_own_option(key, value, folders[1:])}"
            )
        return
    first = key.split(".")[0].split("/")[0]
    if first not in {*groups, *top}:
        near = nearest(first, {*groups, *top})
        if "." not in key:
            near = better_hint(key, (override.input_line or "").partition("=")[2], near, folders[0])
        raise ConfigError(f"expected a config group or key, got {key}; {near}")


def _own_option(group: str, name: str, own: Sequence[Path]) -> str:
    """Returns a sentence on where an option of the user would be read; `own` are the folders of --config-dir."""
    if own:
        return f"no {group}/{name}.yaml is in {', '.join(map(str, own))}, which --config-dir names"
    return f"for an option of your own, in DIR/{group}/{name}.yaml, add --config-dir DIR"


def check_added(override: Override, base: DictConfig) -> None:
    """Checks that something reads the key that `+key=value` adds to `base`.

    Raises:
        ConfigError: nothing reads the key.
    """
    key = str(override.key_or_group)
    if not override.is_add() or "/" in key or override.package is not None:
        return
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(base, parent) if parent else None
    allowed = key.startswith(OPEN_NODES) or (isinstance(node, DictConfig) and "_target_" in node)
    if not allowed and parent:
        allowed = any(
            isinstance(above, DictConfig) and "_target_" in above
            for above in (OmegaConf.select(base, parent.rsplit(".", n)[0]) for n in range(1, parent.count(".") + 1))
        )
    if not allowed:
        raise ConfigError(
            f"expected a key that something reads, got +{key}; {nearest(key, config_keys(base))}; keys can be added "
            f"below nodes with a _target_, and below trainer, metrics and tags"
        )


def is_open(text: str, base: DictConfig) -> bool:
    """Returns whether an override sets a key that the YAML need not contain.

    Such keys are tags, metrics, arguments of the Trainer, and entries of a mapping in `base` whose keys the user
    chooses.
    """
    key = text.partition("=")[0]
    parent, _, name = key.partition(".")
    if parent == "dataset" and (first := name.partition(".")[0]) in FREE_MAPPINGS:
        return first in (base.get("dataset") or {})
    return (
        parent in {"tags", "metrics"}
        or key.startswith(("search.space.", "backbone.preprocessing."))
        or (parent == "trainer" and name in TRAINER_ARGUMENTS)
    )


def config_keys(config: DictConfig) -> list[str]:
    """Returns every key of a config, nodes and leaves, with dots between the levels."""
    plain = OmegaConf.to_container(config, resolve=False)

    def walk(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        here = [f"{prefix}{key}" for key in node if key != "_target_"]
        return here + [found for key, value in node.items() for found in walk(value, f"{prefix}{key}.")]

    return walk(plain, "")


def _top_level(conf: Path) -> list[str]:
    text = (conf / "config.yaml").read_text("utf-8")
    return [match[1] for match in re.finditer(r"^(\w+):", text, re.MULTILINE) if match[1] != "defaults"]

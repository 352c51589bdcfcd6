"""Overrides in Hydra's grammar, in which a text stays as it was written, and texts as overrides."""

from __future__ import annotations

from typing import Any, Final

from hydra.core.override_parser.overrides_parser import KEY_RULES, OverridesParser
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import Key, Override, Quote, QuotedString
from hydra.grammar.gen.OverrideLexer import (  # type: ignore[attr-defined]
    CommonTokenStream,
    InputStream,
    OverrideLexer,
)
from hydra.grammar.gen.OverrideParser import OverrideParser

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
    "launcher.address",
    "launcher.partition",
    "paths",
    "split.path",
    "tracking.experiment",
    "tracking.run_name",
    "tracking.uri",
)
"""Keys, and nodes of keys, that hold text: 007, 1.10 and 12e4567 are not numbers there."""
_NUMBERS: Final = (OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL)


class TextParser(OverridesParser):
    """Hydra's parser of overrides, but for the values of `TEXTS`."""

    def parse_rule(self, s: str, rule_name: str) -> Any:
        """See the base class, of whose method this is a copy with another visitor."""
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
        """The primitive, as it was written where the key holds text."""
        if is_text(self.key):
            kinds = (*_NUMBERS, OverrideLexer.NULL) if self.key.startswith(f"{TAGS}.") else _NUMBERS
            (token, *further) = [node for node in ctx.getChildren() if not self.is_ws(node)] or [None]
            if not further and token is not None and token.symbol.type in kinds:
                return token.symbol.text
        return self._createPrimitive(ctx)


def is_text(key: str) -> bool:
    """Whether the values of `key` are text."""
    return any(key == text or key.startswith(f"{text}.") for text in TEXTS)


def quoted(text: str) -> str:
    """`text` as a value in Hydra's grammar, whatever it holds."""
    return QuotedString(text, Quote.single).with_quotes()


def literal(text: str) -> str:
    """`text` as a value of a config in which `${...}` is no reference."""
    before, *after = text.split("${")
    for piece in after:
        slashes = len(before) - len(before.rstrip("\\"))
        before = f"{before}{slashes * chr(92)}\\${{{piece}"
    return before

"""Evaluates `dataset.filter`, an expression over the table's columns, with a small safe grammar.

The grammar has column names (in backticks if they contain blanks), numbers, texts and lists of them, comparisons (also
`0 < age < 50`, `in`, `not in`), `and`, `or`, `not` (also `&`, `|`, `~`), `+ - * / // %`, and the methods in `METHODS`
and `TEXT_METHODS`. It has nothing else, so a job file from somebody else cannot run code through its filter.
"""

from __future__ import annotations

import ast
import io
import operator
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError, nearest
from lesion_exp.text_table import as_numbers, normal_text

METHODS: Final = ("isna", "notna", "isin")
TEXT_METHODS: Final = ("startswith", "endswith", "contains", "lower", "upper")
COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_CONNECTIVES: Final = {"&": "and", "|": "or"}
_SHOWN: Final = 3
"""Cells that a message lists."""


def filter_rows(table: pd.DataFrame, expression: str) -> pd.DataFrame:
    """Returns the rows of `table` for which `expression` is true.

    A comparison with a missing value is false, except for `!=`. As in `pandas.DataFrame.query`, `&` and `|` have the
    precedence of `and` and `or`.

    Raises:
        ConfigError: the expression is outside the grammar, names an unknown column, or is not true or false for each
            row.
    """
    try:
        kept = _Evaluator(table).rows(normal_text(expression))
    except _OutsideGrammarError as error:
        raise ConfigError(
            f"expected dataset.filter to be a condition over the table's columns, got {expression!r}: {error}\n"
            f"columns: {', '.join(map(str, table.columns))}"
        ) from error
    return table[kept]


class _OutsideGrammarError(Exception):
    """What is wrong with the expression, and what to write instead."""


class _Evaluator:
    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.columns = {str(column): column for column in table.columns}

    def rows(self, expression: str) -> pd.Series:
        try:
            tree = ast.parse(self._to_python(expression.strip()), mode="eval")
            return self._as_condition(self._value(tree.body), tree.body)
        except (SyntaxError, tokenize.TokenError) as error:
            hint = "; compare with ==" if re.search(r"(?<![=!<>])=(?!=)", expression) else ""
            raise _OutsideGrammarError(f"it is not a valid expression ({error.args[0]}){hint}") from error
        except (TypeError, ValueError, ZeroDivisionError, OverflowError, re.error) as error:
            raise _OutsideGrammarError(f"it cannot be evaluated ({error}); check the types of its parts") from error
        except (RecursionError, MemoryError) as error:
            raise _OutsideGrammarError("it is too deeply nested; write it shorter") from error

    def _to_python(self, expression: str) -> str:
        """Returns `expression` with `and` and `or` for `&` and `|`, and with Python names for those in backticks."""

        def stand_in(match: re.Match[str]) -> str:
            name = f"quoted_column_{len(self.columns)}"
            self.columns[name] = self._column(match[1])
            return name

        plain = re.sub(r"`([^`]*)`", stand_in, expression)
        tokens = tokenize.generate_tokens(io.StringIO(plain).readline)
        pairs = [(token.type, token.string) for token in tokens]
        return tokenize.untokenize(
            [(tokenize.NAME, _CONNECTIVES[text]) if text in _CONNECTIVES else (kind, text) for kind, text in pairs]
        )

    def _column(self, name: str) -> Any:
        if name not in self.columns:
            raise _OutsideGrammarError(f"there is no column {name!r}; {nearest(name, map(str, self.table.columns))}")
        return self.columns[name]

    def _value(self, node: ast.expr) -> Any:
        """Returns the value of `node`: a Series with the table's index, or a number, text or list."""
        match node:
            case ast.Name():
                return self.table[self._column(node.id)]
            case ast.Constant() | ast.List() | ast.Tuple() | ast.Set():
                return _literal(node)
            case ast.BoolOp():
                combine = operator.and_ if isinstance(node.op, ast.And) else operator.or_
                result = self._as_condition(self._value(node.values[0]), node.values[0])
                for part in node.values[1:]:
                    result = combine(result, self._as_condition(self._value(part), part))
                return result
            case ast.UnaryOp(op=ast.Not() | ast.Invert()):
                return ~self._as_condition(self._value(node.operand), node.operand)
            case ast.UnaryOp(op=ast.USub()):
                return -_number(self._value(node.operand), node)
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                left, right = (_number(self._value(side), node) for side in (node.left, node.right))
                return ARITHMETIC[type(node.op)](left, right)
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._call(node)
        raise _OutsideGrammarError(
            f"{ast.unparse(node)!r} is not allowed; use columns, literals, comparisons, in, and, or, not, + - * / // "
            f"%, {_method_names()}"
        )

    def _comparison(self, node: ast.Compare) -> pd.Series:
        sides = [node.left, *node.comparators]
        result = pd.Series(True, index=self.table.index)
        for left, comparison, right in zip(sides, node.ops, sides[1:], strict=False):
            result &= self._compare(left, comparison, right)
        return result

    def _compare(self, left: ast.expr, comparison: ast.cmpop, right: ast.expr) -> pd.Series:
        values, other = self._value(left), self._value(right)
        text = f"{ast.unparse(left)} with {ast.unparse(right)}"
        if isinstance(comparison, (ast.In, ast.NotIn)):
            if not isinstance(values, pd.Series) or not isinstance(other, list):
                raise _OutsideGrammarError(f"cannot compare {text}; write COLUMN in ['a', 'b']")
            _check_comparable(left, values, other)
            found = values.isin(other)
            return found if isinstance(comparison, ast.In) else ~found
        if type(comparison) not in COMPARISONS:
            raise _OutsideGrammarError("'is' is not allowed; use ==, .isna() or .notna()")
        for side in (values, other):
            if side is None or isinstance(side, list):
                raise _OutsideGrammarError(f"cannot compare {text}; use .isna(), .notna() or in")
        if not isinstance(values, pd.Series) and not isinstance(other, pd.Series):
            raise _OutsideGrammarError(f"the comparison of {text} involves no column; compare a column with a value")
        if isinstance(comparison, (ast.Eq, ast.NotEq)):
            for side, column, value in ((left, values, other), (right, other, values)):
                _check_comparable(side, column, [value])
        else:
            for side, column, value in ((left, values, other), (right, other, values)):
                if _is_number(value) and (words := _not_numbers(column)):
                    raise _OutsideGrammarError(f"{ast.unparse(side)!r} {words}; check the types of its parts")
        compared: pd.Series = COMPARISONS[type(comparison)](values, other)
        return compared.fillna(False).astype(bool)

    def _call(self, node: ast.Call) -> pd.Series:
        method = node.func
        if isinstance(method, ast.Attribute):
            arguments = [_literal(argument) for argument in node.args]
            options = {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords if keyword.arg}
            owner = method.value
            if method.attr in METHODS and not node.keywords:
                values = self._series(owner)
                for given in arguments:
                    _check_comparable(owner, values, given if isinstance(given, list) else [given])
                return _series_method(values, method.attr, *arguments)
            is_text = isinstance(owner, ast.Attribute) and owner.attr == "str"
            if is_text and method.attr in TEXT_METHODS and len(options) == len(node.keywords):
                assert isinstance(owner, ast.Attribute)
                return _text_method(self._series(owner.value), method.attr, *arguments, **options)
        raise _OutsideGrammarError(f"{ast.unparse(node)!r} is not allowed; the only calls are {_method_names()}")

    def _series(self, node: ast.expr) -> pd.Series:
        value = self._value(node)
        if not isinstance(value, pd.Series):
            raise _OutsideGrammarError(f"{ast.unparse(node)!r} is not a column; use the name of one")
        return value

    def _as_condition(self, value: Any, node: ast.expr) -> pd.Series:
        if isinstance(value, pd.Series) and (
            pd.api.types.is_bool_dtype(value) or all(isinstance(cell, bool) for cell in value.dropna())
        ):
            return value.where(value.notna(), False).astype(bool)
        raise _OutsideGrammarError(
            f"{ast.unparse(node)!r} is not true or false for each row; compare it with something"
        )


def _check_comparable(node: ast.expr, column: Any, values: Sequence[Any]) -> None:
    """Checks that a column of texts is not compared with numbers, or one of numbers with texts, which are never equal.

    Raises:
        _OutsideGrammarError: it is.
    """
    if not isinstance(column, pd.Series) or column.isna().all():
        return
    known = column.dropna()
    name = ast.unparse(node)
    numbers = [value for value in values if isinstance(value, (int, float))]
    texts = [value for value in values if isinstance(value, str)]
    if numbers and all(isinstance(cell, str) for cell in known):
        quoted = ", ".join(repr(str(number)) for number in numbers[:_SHOWN])
        raise _OutsideGrammarError(f"{name!r} {_not_numbers(known)}; compare it with text, in quotes: {quoted}")
    if texts and all(isinstance(cell, (bool, np.bool_)) for cell in known):
        raise _OutsideGrammarError(f"{name!r} is true or false; write True or False in place of {texts[0]!r}")
    if texts and pd.api.types.is_numeric_dtype(known):
        raise _OutsideGrammarError(
            f"{name!r} is a column of numbers; write a number without quotes in place of {texts[0]!r}"
        )


def _series_method(values: pd.Series, name: str, *arguments: Any) -> pd.Series:
    result: pd.Series = getattr(values, name)(*arguments)
    return result


def _text_method(values: pd.Series, name: str, *arguments: Any, **options: Any) -> pd.Series:
    texts = values.astype(object).map(lambda value: str(value) if pd.notna(value) else np.nan).astype("string")
    result: pd.Series = getattr(texts.str, name)(*arguments, **options)
    return result.fillna(False).astype(bool) if name in {"startswith", "endswith", "contains"} else result


def _literal(node: ast.expr) -> Any:
    """Returns the value of a literal: a number, a text, true, false, null, or a list of these."""
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List() | ast.Tuple() | ast.Set():
            return [_literal(element) for element in node.elts]
    raise _OutsideGrammarError(f"{ast.unparse(node)!r} must be a number, a text or a list of them")


def _number(value: Any, node: ast.expr) -> Any:
    if _is_number(value):
        return value
    words = _not_numbers(value)
    raise _OutsideGrammarError(
        f"{ast.unparse(node)!r} calculates with something that is not a number; use columns of numbers"
        f"{f' (a column here {words})' if words else ''}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, pd.Series) and pd.api.types.is_numeric_dtype(value))


def _not_numbers(value: Any) -> str:
    """Returns which cells make `value` a column of text and not of numbers; empty if it is no column of text."""
    if not isinstance(value, pd.Series):
        return ""
    texts = value[value.map(lambda cell: isinstance(cell, str))]
    if texts.empty:
        return ""
    strange = texts[as_numbers(texts).isna()]
    shown = (strange if len(strange) else texts).drop_duplicates().head(_SHOWN)
    why = "are no numbers" if len(strange) else "may be ids, decimal numbers or thousands"
    return f"is text, because cells such as {', '.join(map(repr, shown))} {why}"


def _method_names() -> str:
    return ", ".join([f".{name}()" for name in METHODS] + [f".str.{name}()" for name in TEXT_METHODS])

"""CSV files that are safe to open in a spreadsheet program: no text becomes a formula.

The name of a file or a class may be `=cmd|...`, and Excel and LibreOffice evaluate a cell that begins with `=`, `+`,
`-` or `@`. Such a text is written with an apostrophe in front, as these programs do themselves, and read back without
it; numbers stay numbers. A spreadsheet program may begin a new cell at a semicolon, a tab or a line break, so the text
after one of these is treated alike. Tables in parquet hold every text as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pandas as pd

_SIGN: Final = "+\\-\uff0b\uff0d"
_NUMBER: Final = r"(?:[\d.,]+(?:[eE][+-]?\d+)?)?(?:$|[;\t\r\n])"
_FORMULA: Final = rf"'*[ \xa0]*(?:[=@\uff1d\uff20]|[{_SIGN}](?!{_NUMBER}))"
"""The beginning of a cell that would be evaluated. A sign alone, or before a number, is harmless."""
_BEGINNING: Final = r"(^|[;\t\r\n])"
_UNESCAPED: Final = re.compile(rf"{_BEGINNING}(?={_FORMULA})")
_ESCAPED: Final = re.compile(rf"{_BEGINNING}'(?={_FORMULA})")


def escaped(text: str) -> str:
    """Returns `text` with an apostrophe wherever a spreadsheet program would find a formula."""
    return _UNESCAPED.sub(r"\1'", text)


def unescaped(text: str) -> str:
    """Returns the original of a text that `escaped` returned."""
    return _ESCAPED.sub(r"\1", text) if "'" in text else text


def write_csv(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """Writes `frame` without its index to `path`, with texts and column names `escaped`.

    Args:
        frame: the table.
        path: the csv.
        options: further arguments of `pandas.DataFrame.to_csv`.
    """
    safe = frame.apply(lambda column: column if column.dtype.kind in "biufmM" else column.map(_harmless))
    safe.set_axis([_harmless(name) for name in frame], axis=1).to_csv(path, index=False, **options)


def _harmless(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) else value

"""Tables as csv that spreadsheet programs can open: no text of a cell becomes a formula there.

The name of a file or a class may be `=cmd|...`, and Excel and LibreOffice compute what begins with `=`, `+`, `-` or
`@`. Such a text is written with an apostrophe before it, as these programs write it themselves, and read back without;
numbers stay numbers. A semicolon, a tab or a line break may begin another cell there, so that it counts as a beginning,
too. Tables in parquet hold every text as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pandas as pd

_SIGN: Final = "+\\-\uff0b\uff0d"
_NUMBER: Final = r"(?:[\d.,]+(?:[eE][+-]?\d+)?)?(?:$|[;\t\r\n])"
_FORMULA: Final = rf"'*[ \xa0]*(?:[=@\uff1d\uff20]|[{_SIGN}](?!{_NUMBER}))"
"""What a cell that is computed begins with; a sign with a number behind it, or with nothing, is none."""
_BEGINNING: Final = r"(^|[;\t\r\n])"
_UNMARKED: Final = re.compile(rf"{_BEGINNING}(?={_FORMULA})")
_MARKED: Final = re.compile(rf"{_BEGINNING}'(?={_FORMULA})")


def marked(text: str) -> str:
    """`text` with an apostrophe wherever a spreadsheet program would begin to compute."""
    return _UNMARKED.sub(r"\1'", text)


def unmarked(text: str) -> str:
    """The text of which `marked` made `text`."""
    return _MARKED.sub(r"\1", text) if "'" in text else text


def write_csv(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """Writes `frame` without its index to `path`, its texts and headers `marked`; `options` go to pandas."""
    safe = frame.apply(lambda column: column if column.dtype.kind in "biufmM" else column.map(_harmless))
    safe.set_axis([_harmless(name) for name in frame], axis=1).to_csv(path, index=False, **options)


def _harmless(value: Any) -> Any:
    return marked(value) if isinstance(value, str) else value

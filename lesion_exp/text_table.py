"""Reads delimited text files, and writes csv files that are safe to open in a spreadsheet program.

A reader finds the encoding and the delimiter, and returns every cell as a text.

An encoding is recognised by its byte order mark; without one, UTF-8, UTF-16 and finally Windows-1252 are tried, and the
log says which was assumed. No byte is ever replaced: a file that cannot be decoded is refused.

The name of a file or a class may be `=cmd|...`, and Excel and LibreOffice evaluate a cell that begins with `=`, `+`,
`-` or `@`. A text that begins so is written with an apostrophe in front, as these programs do themselves, and read back
without it; numbers stay numbers. A spreadsheet program may begin a new cell at a semicolon, a tab or a line break, so
the text after one of these is treated alike. Tables in parquet hold every text as it is.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Set
from pathlib import Path
from typing import IO, Any, Final

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from lesion_exp.errors import ConfigError, DataError, check_file, first_cases
from lesion_exp.file_kind import known_kind
from lesion_exp.image_file import read_bytes

_SIGN: Final = "+\\-\uff0b\uff0d"
_NUMBER_OR_END: Final = r"(?:[\d.,]+(?:[eE][+-]?\d+)?)?(?:$|[;\t\r\n])"
_FORMULA: Final = rf"'*[ \xa0]*(?:[=@\uff1d\uff20]|[{_SIGN}](?!{_NUMBER_OR_END}))"
"""The beginning of a cell that would be evaluated. A sign alone, or before a number, is harmless."""
_BEGINNING: Final = r"(^|[;\t\r\n])"
_UNESCAPED: Final = re.compile(rf"{_BEGINNING}(?={_FORMULA})")
_ESCAPED: Final = re.compile(rf"{_BEGINNING}'(?={_FORMULA})")
log = logging.getLogger(__name__)
AUTO: Final = "auto"
EMPTY_WORDS: Final = frozenset(
    {"", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "-NaN", "-nan", "1.#QNAN"}
)
"""Texts that mean an empty cell in a column of numbers, truth values or remarks. Labels and ids have other rules."""
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, since it begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WINDOWS: Final = "cp1252"
_INVISIBLE: Final = "\u200b\u200c\u200d\u2060\ufeff"
"""Characters without width. Copying from web pages and workbooks leaves them at the ends of cells."""
_REPLACEMENT: Final = "\ufffd"
_DELIMITERS: Final = ",;\t"
MOST_COLUMNS: Final = 10_000
"""Greatest number of columns of a table. The widest published table, with the pixels of 28 x 28 images, has 2,353."""
_NUMBER: Final = r"[+-]?(?:(?:0|[1-9]\d{0,14})(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?"
"""A number that can be written back unchanged. 007 and ids of 20 digits are texts."""

_DECIMAL_COMMA: Final = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"
"""A number as spreadsheet programs write it in much of Europe."""
_THOUSANDS: Final = r"[+-]?[1-9]\d{0,2},\d{3}"
"""A decimal number with a comma, or a whole one with a comma between groups of three digits."""


def escaped(text: str) -> str:
    """Returns `text` with an apostrophe wherever a spreadsheet program would find a formula."""
    return _UNESCAPED.sub(r"\1'", text)


def unescaped(text: str) -> str:
    """Returns the original of a text that `escaped` returned."""
    return _ESCAPED.sub(r"\1", text) if "'" in text else text


def write_csv(frame: pd.DataFrame, path: Path | IO[str], **options: Any) -> None:
    """Writes `frame` without its index to `path`, with texts and column names `escaped`.

    Args:
        frame: the table.
        path: the csv, or an open file.
        options: further arguments of `pandas.DataFrame.to_csv`.
    """
    safe = frame.apply(lambda column: column if column.dtype.kind in "biufmM" else column.map(_harmless))
    safe.set_axis([_harmless(name) for name in frame], axis=1).to_csv(path, index=False, **options)


def _harmless(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) else value


def read_text(locator: str, encoding: str = AUTO) -> str:
    """Reads the text at `locator` and returns it in the Unicode normal form NFC.

    A file that is not in Unicode does not say which code page it uses. It is read as Windows-1252, with a warning.

    Args:
        locator: the file, or a member of a zip.
        encoding: the name of one of Python's text encodings, or `auto`.

    Raises:
        DataError: the file is of another kind, or its bytes are not valid in this encoding.
        ConfigError: there is no such encoding.
    """
    text = unicodedata.normalize("NFC", _decoded(read_bytes(locator), locator, encoding))
    if _REPLACEMENT in text:
        line = len(text[: text.index(_REPLACEMENT) + 1].splitlines())
        log.warning(
            "%s contains %d characters U+FFFD, the first in line %d: another program has replaced letters by them, so "
            "names that differed only there are now the same. Export the file again as UTF-8",
            locator,
            text.count(_REPLACEMENT),
            line,
        )
    return text


def read_csv(locator: str, encoding: str = AUTO) -> pd.DataFrame:
    """Reads the delimited text at `locator` as a table of texts without outer blanks; empty cells are missing values.

    The delimiter is the comma, semicolon or tab that occurs most often in the first line, unless a line such as `sep=;`
    precedes it. `typed` converts a column to numbers.

    Args:
        locator: the file, or a member of a zip.
        encoding: as for `read_text`.

    Raises:
        DataError: the table is empty, cannot be parsed, has too many columns, or has two columns of the same name.
        ConfigError: there is no such encoding.
    """
    cells, marks = _parsed(locator, encoding)
    names = _header(list(_clean(cells.iloc[0], marks)), locator)
    body = cells.iloc[1:].reset_index(drop=True)
    columns = {name: _clean(body[key], marks) for name, key in zip(names, body.columns, strict=True)}
    return pd.DataFrame(columns, index=body.index)


def read_cells(locator: str, encoding: str = AUTO) -> pd.DataFrame:
    """Reads a delimited text without a header, as `read_csv` does otherwise.

    Args:
        locator: the file, or a member of a zip.
        encoding: as for `read_text`.

    Returns:
        The cells of all lines; the columns are called `column 1` and so on.

    Raises:
        DataError: the table is empty, cannot be parsed, or has too many columns.
        ConfigError: there is no such encoding.
    """
    cells, marks = _parsed(locator, encoding)
    columns = {f"column {place}": _clean(cells[key], marks) for place, key in enumerate(cells, start=1)}
    return pd.DataFrame(columns, index=cells.index)


def _parsed(locator: str, encoding: str) -> tuple[pd.DataFrame, Set[str]]:
    """The cells of all lines as they are in the text, and those letters in it that are removed from cells."""
    text = read_text(locator, encoding)
    declared = re.match(r"\s*sep=(.)[\r\n]+", text)
    text = text[declared.end() :] if declared else text
    first_line = re.split(r"[\r\n]", text, maxsplit=1)[0]
    if not first_line.strip(" \t,;"):
        raise DataError(
            f"expected a table with a header at {locator}, but its first line is empty; put the names of the columns "
            f"there"
        )
    delimiter = declared[1] if declared else _delimiter(first_line)
    if first_line.count(delimiter) >= MOST_COLUMNS:
        raise DataError(
            f"expected a table of at most {MOST_COLUMNS:,} columns at {locator}, got "
            f"{first_line.count(delimiter) + 1:,}; keep the columns that are needed"
        )
    # the letters save time: most large tables have none
    return _cells(text, delimiter, locator), {letter for letter in (*_INVISIBLE, "'") if letter in text}


def read_table(path: Path, what: str) -> pd.DataFrame:
    """Reads the delimited text, as `read_csv` does, or the parquet file at `path`.

    Columns of categories, which parquet may have, become columns of their values.

    Args:
        path: the file; its ending `.parquet` says that it is one.
        what: what the table contains, for messages.

    Raises:
        DataError: there is no such file, it cannot be read, or it has no row.
    """
    path = path.expanduser()
    check_file(path, what)
    if path.suffix.lower() != ".parquet":
        found = read_csv(str(path))
    else:
        try:
            found = pd.read_parquet(path)
            found = found.astype(dict.fromkeys(found.select_dtypes("category"), object)).rename(columns=str)
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(
                f"expected a table with {what} at {path}, but it cannot be read: {error}; name a csv, or save it again"
            ) from error
    if found.empty:
        raise DataError(f"expected {what} at {path}, got a header without any row; name a file that has rows")
    return found


def normal_text(text: str) -> str:
    """Returns `text` in the Unicode normal form NFC without outer blanks, so that equal-looking names are equal."""
    return unicodedata.normalize("NFC", text).strip().strip(_INVISIBLE).strip()


def typed(column: pd.Series) -> pd.Series:
    """Converts a column of texts to numbers or truth values, if every cell that is not empty is one.

    `EMPTY_WORDS` count as missing. A number with leading zeros, or of more than 15 digits, is a text. The decimal mark
    is a comma if no cell has a point; a column in which each comma may group thousands (1,024) stays text.
    """
    words = column.where(~column.isin(EMPTY_WORDS))
    known = words.dropna()
    if known.empty or known.str.fullmatch(_NUMBER).all():
        return _numbers(words)
    if _has_decimal_commas(known):
        return _numbers(words.str.replace(",", ".", regex=False))
    lowered = known.str.lower()
    if lowered.isin(("true", "false")).all():
        truth = (lowered == "true").astype(bool)
        return truth if len(truth) == len(words) else truth.astype(object).reindex(words.index, fill_value=None)
    return words


def _has_decimal_commas(known: pd.Series) -> bool:
    with_comma = known[known.str.contains(",", regex=False)]
    if known.str.contains(".", regex=False).any() or with_comma.str.fullmatch(_THOUSANDS).all():
        return False
    return bool(known.str.replace(",", ".", regex=False).str.fullmatch(_NUMBER).all())


def as_numbers(values: pd.Series) -> pd.Series:
    """Returns the numbers in `values`, NaN for other cells. The decimal mark is a comma if no cell has a point."""
    if values.dtype.kind not in "biuf":
        texts = values.astype(str)
        if not texts.str.contains(".", regex=False).any():
            values = texts.where(~texts.str.fullmatch(_DECIMAL_COMMA), texts.str.replace(",", ".", regex=False))
    return pd.to_numeric(values, errors="coerce")


def _numbers(words: pd.Series) -> pd.Series:
    """Converts texts of numbers to int64 if all are integers and none is missing, else to float64."""
    cells = pa.array(words, pa.string(), from_pandas=True)
    whole = not cells.null_count and words.iloc[0].lstrip("+-").isdigit()
    for kind in (pa.int64(), pa.float64()) if whole else (pa.float64(),):
        try:
            return pd.Series(cells.cast(kind).to_numpy(zero_copy_only=False), index=words.index)
        except pa.ArrowInvalid:
            continue
    return pd.Series(pd.to_numeric(words.astype(object)), index=words.index)  # Arrow does not read +1 and 1.


def _decoded(raw: bytes, where: str, encoding: str) -> str:
    kind = known_kind(raw)
    if kind is not None:
        raise DataError(
            f"expected delimited text (a csv) at {where}, but it is {kind} by its first bytes; save the table from "
            f"the program that made it as CSV UTF-8"
        )
    if encoding != AUTO:
        return _in_encoding(raw, where, encoding)
    for mark, codec in _MARKS:
        if raw.startswith(mark):
            return _in_encoding(raw, where, codec)
    if b"\0" in raw:
        return _without_mark(raw, where)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return _of_windows(raw, where)


def _in_encoding(raw: bytes, where: str, encoding: str) -> str:
    try:
        return raw.decode(encoding)  # refuses codecs that are not text encodings
    except LookupError as error:
        raise ConfigError(
            f"expected dataset.encoding to be auto or a text encoding that Python knows, such as utf-8 or cp1251, got "
            f"{encoding!r}"
        ) from error
    except (UnicodeError, ValueError, TypeError) as error:
        raise DataError(
            f"expected text in the encoding {encoding} at {where}, but it cannot be decoded: {error}; save it as UTF-8"
        ) from error


def _without_mark(raw: bytes, where: str) -> str:
    """Decodes UTF-16 without a byte order mark, in which every second byte of Latin letters and digits is zero."""
    even, odd = raw[0::2].count(0) / max(len(raw[0::2]), 1), raw[1::2].count(0) / max(len(raw[1::2]), 1)
    if max(even, odd) < 0.3 or min(even, odd) > 0.05:
        raise DataError(
            f"expected delimited text (a csv) at {where}, but it contains zero bytes, which no text has; save the "
            f"table as CSV UTF-8"
        )
    codec = "utf-16-be" if even > odd else "utf-16-le"
    log.info("%s has no byte order mark and is read as %s", where, codec)
    return _in_encoding(raw, where, codec)


def _of_windows(raw: bytes, where: str) -> str:
    text = raw.decode("utf-8", errors="surrogateescape")
    broken = [position for position, letter in enumerate(text) if "\udc80" <= letter <= "\udcff"]
    letters = sum(letter > "\x7f" for letter in text) - len(broken)
    line = len(text[: broken[0] + 1].splitlines())
    if letters > len(broken):
        raise DataError(
            f"expected UTF-8 at {where}, as most of its letters are, but {len(broken)} bytes are not, the first in "
            f"line {line}; save it as UTF-8 again from the program that made it"
        )
    try:
        text = raw.decode(_WINDOWS)
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8, UTF-16 or Windows-1252 at {where}, but line {line} is none of these: {error}; save it as "
            f"UTF-8, or with dataset=csv name its encoding (dataset.encoding=cp1251)"
        ) from error
    log.warning(
        "%s is not UTF-8 (line %d) and is read as Windows-1252: %r. If these letters are wrong, save it as UTF-8, or "
        "with dataset=csv name its encoding (dataset.encoding=cp1251)",
        where,
        line,
        text.splitlines()[line - 1].strip()[:80],
    )
    return text


def _delimiter(first_line: str) -> str:
    """Returns the delimiter that occurs most often outside quotes."""
    bare = re.sub(r'"[^"]*"', "", first_line)
    return max(_DELIMITERS, key=bare.count)


def _cells(text: str, delimiter: str, where: str) -> pd.DataFrame:
    """Returns all cells as texts, with the header in the first row.

    Arrow reads hundreds of thousands of rows in seconds, but refuses rows with missing cells and stray quotes. pandas
    is slower and reads both.
    """
    encoded = text.encode()
    names = [f"f{place}" for place in range(min(text.count(delimiter), MOST_COLUMNS) + 1)]
    try:
        read: pd.DataFrame = arrow_csv.read_csv(
            pa.BufferReader(encoded),
            arrow_csv.ReadOptions(autogenerate_column_names=True, block_size=len(encoded) + 1),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        ).to_pandas()
        return read
    except pa.ArrowInvalid:
        pass
    try:
        return pd.read_csv(
            io.StringIO(text, newline=None),
            sep=delimiter,
            header=None,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
        )
    except (ValueError, pd.errors.ParserError, csv.Error) as error:
        raise DataError(
            f"expected a delimited table at {where}, with as many cells in every row as in its header, but reading it "
            f"failed: {error}; correct that line"
        ) from error


def _clean(column: pd.Series, marks: Set[str]) -> pd.Series:
    """Returns `column` without outer blanks and without those of the characters in `marks`; empty cells are missing."""
    column = column.astype(str).str.strip()
    if marks - {"'"}:
        column = column.str.strip(_INVISIBLE).str.strip()
    if "'" in marks:
        column = column.map(unescaped, na_action="ignore")
    return column.mask(column == "")


def _header(cells: list[Any], where: str) -> list[str]:
    names = [str(cell) if isinstance(cell, str) and cell else f"Unnamed: {place}" for place, cell in enumerate(cells)]
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise DataError(
            f"expected the columns of {where} to have different names, but these occur more than once:\n"
            f"{first_cases(doubled)}\nrename or remove the repeated columns"
        )
    return names

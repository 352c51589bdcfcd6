from __future__ import annotations

import ast
import logging
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesion_exp import text_table
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.text_table import escaped, read_cells, read_csv, read_table, read_text, typed, unescaped, write_csv

LETTERS = "patient;note\n007;Müller\n008;Größe\n009;Öl\n"
FORMULAS = (
    "=cmd|' /C calc'!A0", "@SUM(1+1)", "+1+1", "-2+3+cmd|' /C calc'!A0", " =1", "\t=1", "\r\n=1", "\uff1dcmd", "a;=cmd",
    "'=1", "-a.jpg", "+-1", "=", "@",
)  # fmt: skip
HARMLESS = (
    "mel",
    "-1",
    "+3.5",
    "-1e-5",
    "-",
    "+",
    "",
    "a=b",
    "a-b",
    "it's",
    "'quoted'",
    "../x",
    "3=4",
    "folder/=a.jpg",
)


def _file(folder: Path, content: bytes) -> str:
    (folder / "t.csv").write_bytes(content)
    return str(folder / "t.csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    text = "\ufeff" + delimiter.join(["a", "b "]) + "\n" + delimiter.join(["1", '"x, y; z"']) + "\n"
    frame = read_csv(_file(tmp_path, text.encode()))
    assert frame.to_dict("list") == {"a": ["1"], "b": ["x, y; z"]}


def test_delimiters_within_quotes_do_not_count_and_a_line_of_excel_decides(tmp_path: Path) -> None:
    assert list(read_csv(_file(tmp_path, b'a;"b,c,d"\n1;2\n')).columns) == ["a", "b,c,d"]
    assert list(read_csv(_file(tmp_path, b"sep=|\r\na|b,c,d\r\n1|2\r\n")).columns) == ["a", "b,c,d"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_cells_are_texts_as_they_were_written(tmp_path: Path, line_end: str) -> None:
    lines = ["case , dx,thick", " 007,NA,1.0", "7,None,", "1e5,True,  "]
    frame = read_csv(_file(tmp_path, line_end.join(lines).encode()))
    assert list(frame.columns) == ["case", "dx", "thick"]
    assert frame["case"].tolist() == ["007", "7", "1e5"]
    assert frame["dx"].tolist() == ["NA", "None", "True"]
    assert frame["thick"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_letters_survive_every_encoding(tmp_path: Path, codec: str, caplog: pytest.LogCaptureFixture) -> None:
    frame = read_csv(_file(tmp_path, LETTERS.encode(codec)))
    assert frame["note"].tolist() == ["Müller", "Größe", "Öl"]
    assert frame["patient"].tolist() == ["007", "008", "009"]
    assert ("read as Windows-1252" in caplog.text) == (codec == "cp1252")


def test_a_named_encoding_is_used(tmp_path: Path) -> None:
    path = _file(tmp_path, "id,dx\n1,меланома\n".encode("cp1251"))
    assert read_csv(path, "cp1251")["dx"].tolist() == ["меланома"]
    with pytest.raises(ConfigError, match=r"dataset\.encoding to be auto.*got 'cp12511'"):
        read_csv(path, "cp12511")
    with pytest.raises(ConfigError, match=r"dataset\.encoding"):
        read_csv(path, "zlib")
    with pytest.raises(DataError, match="in the encoding utf-8"):
        read_csv(path, "utf-8")


def test_one_normal_form(tmp_path: Path) -> None:
    frame = read_csv(_file(tmp_path, "na\u0308me\nNa\u0308vus\nN\u00e4vus\n".encode()))
    assert list(frame.columns) == ["n\u00e4me"]
    assert frame["n\u00e4me"].nunique() == 1


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"PK\x03\x04\x14\x00", "an Excel workbook or a zip.*save the table.*CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"PAR1\x15\x04", "a parquet file"),
        (b"GIF89a", "a GIF file"),
        (b"7z\xbc\xaf\x27\x1c\x00", "a 7z archive"),
        (b"{\\rtf1 a,b}", "a rich text document"),
        (b"<html><table><tr><td>a,b</td></tr></table></html>", "a web page"),
        (b"a,b\n\x00\x01\x02\x03\x04,b\n", "zero bytes"),
        (b"\xff\xfea\x00,\x00b", "encoding utf-16"),
        (
            "a,b\nä,ö\nü,ß\n".encode() + b"\xe4\n",
            "as most of its letters are, but 1 bytes are not, the first in line 4",
        ),
        (b"a,b\n\x81,2\n", "line 2 is none of these.*dataset.encoding"),
        (b"\n", "first line is empty"),
        (b"", "first line is empty"),
        (b"a,b\n1,2\n1,2,3,4\n", "as many cells in every row"),
        (b"a,b,\n1,2,3\n", None),
        (b"a,b\n1,2,\n", "as many cells in every row"),
        (b"a,b ,b\n1,2,3\n", "different names, but these occur more than once.*b"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, part: str | None) -> None:
    path = _file(tmp_path, content)
    if part is None:
        assert list(read_csv(path).columns) == ["a", "b", "Unnamed: 2"]
        return
    with pytest.raises(DataError, match=rf"(?s){part}"):
        read_csv(path)


def test_a_list_without_a_header_may_repeat_cells_in_its_first_line(tmp_path: Path) -> None:
    cells = read_cells(_file(tmp_path, b"a.jpg, 0 ,0\nb.jpg,,1\n"))
    assert cells.columns.tolist() == ["column 1", "column 2", "column 3"]
    assert cells.fillna("-").to_numpy().tolist() == [["a.jpg", "0", "0"], ["b.jpg", "-", "1"]]


def test_categories_in_parquet_are_their_values(tmp_path: Path) -> None:
    given = pd.DataFrame({"part": ["train", None], "number": [0, 1]})
    given.astype("category").to_parquet(tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet", "parts")
    assert read["part"].fillna("nothing").tolist() == ["train", "nothing"]
    assert read["number"].tolist() == [0, 1]


@pytest.mark.parametrize("header", ["BMI,age", "age,ftyp,x", "\u00e4BM,PK"])
def test_a_header_that_looks_like_the_beginning_of_another_file_is_read(tmp_path: Path, header: str) -> None:
    cells = ",".join("1" for _ in header.split(","))
    assert list(read_csv(_file(tmp_path, f"{header}\n{cells}\n".encode())).columns) == header.split(",")


def test_letters_lost_before_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_text(_file(tmp_path, "id\na\ufffd\nb\ufffd\n".encode()))
    assert "2 characters U+FFFD, the first in line 2" in caplog.text


@pytest.mark.parametrize(
    ("texts", "dtype", "expected"),
    [
        (["1", "2"], "int64", [1, 2]),
        (["1", "NA", "2.5"], "float64", [1, None, 2.5]),
        ([None, "n/a"], "float64", [None, None]),
        (["True", "false"], "bool", [True, False]),
        (["True", None], "object", [True, None]),
        (["007", "8"], "str", ["007", "8"]),
        (["12e4567", "1"], "str", ["12e4567", "1"]),
        (["12345678901234567890"], "str", ["12345678901234567890"]),
        (["inf", "1"], "str", ["inf", "1"]),
        (["x", "null"], "str", ["x", None]),
        (["0,5", "12,500", None], "float64", [0.5, 12.5, None]),
        (["0,5", "1.5"], "str", ["0,5", "1.5"]),
        (["1,024", "12"], "str", ["1,024", "12"]),
        (["1,2,3"], "str", ["1,2,3"]),
    ],
)
def test_columns_become_numbers_only_where_nothing_is_lost(
    texts: list[object], dtype: str, expected: list[object]
) -> None:
    column = typed(pd.Series(texts, dtype=str))
    assert column.dtype == dtype
    assert [None if pd.isna(value) else value for value in column] == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_very_many_columns_is_refused_at_once(tmp_path, delimiter):
    path = tmp_path / "a.csv"
    path.write_text(delimiter.join(f"c{number}" for number in range(200_000)) + "\n" + delimiter * 199_999 + "\n")
    with pytest.raises(DataError, match="at most 10,000 columns"):
        read_csv(str(path))


def test_a_wide_table_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{number}" for number in range(2353)) + "\n" + ",".join(["1"] * 2353) + "\n")
    assert read_csv(str(path)).shape == (1, 2353)


@pytest.mark.parametrize("text", FORMULAS)
def test_what_would_be_computed_begins_with_an_apostrophe(text):
    for cell in escaped(text).replace(";", "\n").replace("\t", "\n").replace("\r", "\n").split("\n"):
        assert not cell.strip().startswith(("=", "+", "-", "@", "\uff1d"))
    assert unescaped(escaped(text)) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_everything_else_stays(text):
    assert escaped(text) == text
    assert unescaped(text) == text


@given(st.text(alphabet="=+-@';\t\n 1.a\uff1d"))
def test_every_text_comes_back(text):
    assert unescaped(escaped(text)) == text
    assert escaped(unescaped(escaped(text))) == escaped(text)


def test_a_table_comes_back_and_numbers_stay_numbers(tmp_path):
    texts = [text for text in (*FORMULAS, *HARMLESS) if text.strip() == text and text]
    frame = pd.DataFrame({"image": texts, "p_=x;=y": -0.5, "count": -3})
    write_csv(frame, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text()
    assert not any(beginning in lines for beginning in ("\n=", "\n@", "\n+1+1"))
    assert lines.startswith("image,p_=x;'=y,count\n")
    assert ",-0.5,-3\n" in lines
    again = read_csv(str(tmp_path / "a.csv"))
    assert again["image"].tolist() == texts
    assert list(again) == list(frame)


def test_odd_column_names_and_empty_tables_do_not_stop_it(tmp_path):
    frame = pd.DataFrame([["=a", None, 1.5]], columns=["x", 0, "=y"])
    write_csv(frame, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "x,0,'=y\n'=a,,1.5\n"
    write_csv(frame[:0], tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "x,0,'=y\n"
    write_csv(pd.DataFrame(), tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").read_text().strip()


def test_every_csv_that_is_written_goes_through_it():
    top = Path(text_table.__file__).parent
    for path in top.rglob("*.py"):
        if path.name in {"text_table.py", "synthetic.py"}:  # the latter writes names of its own making
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert not called.endswith(("to_csv", "csv.writer", "DictWriter", "to_excel")), f"{path}:{node.lineno}"

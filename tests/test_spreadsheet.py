import ast
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesion_exp import spreadsheet
from lesion_exp.spreadsheet import escaped, unescaped, write_csv
from lesion_exp.text_table import read_csv

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
    top = Path(spreadsheet.__file__).parent
    for path in top.rglob("*.py"):
        if path.name in {"spreadsheet.py", "synthetic.py"}:  # the latter writes names of its own making
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert not called.endswith(("to_csv", "csv.writer", "DictWriter", "to_excel")), f"{path}:{node.lineno}"

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion_exp.fitted_table import FittedTable
from lesion_exp.terminal import console
from tests.screen import Screen, plain, whole_words

HEADS = (">cell", "backbone", "optimizer.lr", "augmentation.transforms.crop.p", "seed", "status",
         ">val/balanced_accuracy", ">val/auroc_macro, best epoch", ">time", "run")  # fmt: skip


def drawn(table, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    console(screen).print(table)
    return plain(screen.getvalue())


def sweep_table(rows=3):
    table = FittedTable(*HEADS)
    for number in range(rows):
        table.add_row(str(number), "resnet18", "0.001", "0.25", "1", "finished, pruned", "0.5123", "0.9000", "12 min",
                      f"{number}a3f9c2d")  # fmt: skip
    return table


@pytest.mark.parametrize("width", [60, 80, 100, 120, 250])
def test_no_word_of_a_sweep_is_cut(width, monkeypatch):
    lines = drawn(sweep_table(), width, monkeypatch)
    assert max(map(len, lines)) <= width
    heads = {word for head in HEADS for word in head.lstrip(">").split()}
    assert heads <= whole_words(lines)
    assert {"pruned", "0a3f9c2d", "2a3f9c2d", "0.9000", "resnet18"} <= whole_words(lines)


def test_a_wide_table_is_one_part_and_a_narrow_one_repeats_its_first_column(monkeypatch):
    assert sum("cell" in line.split() for line in drawn(sweep_table(), 200, monkeypatch)) == 1
    narrow = drawn(sweep_table(), 60, monkeypatch)
    heads = [line for line in narrow if "cell" in line.split()]
    assert len(heads) > 1
    assert all(line.split()[0] == "cell" for line in heads)


def test_all_columns_that_name_a_row_are_repeated(monkeypatch):
    table = FittedTable("loss", "lr", ">mean", "against the best", keys=2)
    for lr in ("0.1", "0.01"):
        table.add_row("cross_entropy", lr, "0.5000", "not distinguishable")
    lines = [line.split() for line in drawn(table, 40, monkeypatch)]
    assert sum(words[:2] == ["cross_entropy", "0.01"] for words in lines) == 2


def test_numbers_are_never_broken_and_words_are(monkeypatch):
    table = FittedTable("class", "name", "|95% interval")
    table.add_row("akiec", "actinic keratosis or intraepithelial carcinoma", "0.100 to 0.900")
    lines = drawn(table, 44, monkeypatch)
    assert any("0.100 to 0.900" in line for line in lines)
    assert {"keratosis", "intraepithelial", "carcinoma"} <= whole_words(lines)


def test_forty_columns_and_a_word_without_end(monkeypatch):
    table = FittedTable("key", "value")
    table.add_row("backbone.weights", "/data/" + "x" * 200)
    lines = drawn(table, 40, monkeypatch)
    assert max(map(len, lines)) <= 40
    assert "".join(lines).count("x") == 200, "it is folded, not cut off"
    assert drawn(FittedTable("one", "two"), 40, monkeypatch), "a table without rows"


@settings(deadline=None, max_examples=25)
@given(
    words=st.lists(st.lists(st.text("abcxyz_/.=", min_size=1, max_size=18), min_size=1, max_size=4), min_size=2,
                   max_size=9),
    width=st.integers(44, 160),
)  # fmt: skip
def test_any_table_fits_and_keeps_its_words(words, width):
    table = FittedTable(*(" ".join(column) for column in words))
    table.add_row(*(" ".join(reversed(column)) for column in words))
    file = io.StringIO()
    shown = console(file)
    shown.width = width
    shown.print(table)
    lines = file.getvalue().split("\n")
    assert max(map(len, lines)) <= width
    assert {word for column in words for word in column} <= whole_words(lines)

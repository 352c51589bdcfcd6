"""An option is declared once: what it takes, what it refuses, and what it says."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.option import (
    REQUIRED,
    Devices,
    Kind,
    NamePairs,
    Names,
    Number,
    Place,
    Truth,
    check_options,
    choice,
    file,
    folder,
    option,
    options_of,
    whole,
)

TTA = choice(("none", "flips8"))


def declared(kind, default=None, key=None):
    """The one option of a dataclass with a field of `kind`."""

    @dataclass
    class Declaration:
        it: object = option(default, kind, "what it means", key=key)

    return next(options_of(Declaration))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind(), "a=b", "a=b"),
        (TTA, "flips8", "flips8"),
        (Truth(), "true", True),
        (Truth(), "false", False),
        (whole(), "1", 1),
        (whole(0, words=("auto",)), "auto", "auto"),
        (whole(0), "0", 0),
        (whole(1, 65535), "65535", 65535),
        (Number(), "0", 0.0),
        (Number(), "1e-3", 1e-3),
        (Number(most=1), "1", 1.0),
        (file("x.csv", ".csv"), "A.CSV", Path("A.CSV")),
        (folder(), "somewhere", Path("somewhere")),
        (Place(), "~/x", Path.home() / "x"),
        (Names(), "a", ("a",)),
        (Names(), "[a, b]", ("a", "b")),
        (NamePairs(), "{a: b, c: d}", {"a": "b", "c": "d"}),
        (NamePairs(), "{}", {}),
        (Devices(), "2", 2),
        (Devices(), "auto", "auto"),
        (Devices(), "[0,1]", [0, 1]),
        (Devices(), "[0]", [0]),
    ],
)
def test_a_text_becomes_a_value(kind, text, value):
    read = declared(kind).read(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (TTA, "flip8", r"to be none or flips8, got 'flip8'; did you mean 'flips8'\?"),
        (TTA, "x", "to be none or flips8, got 'x'$"),
        (Truth(), "yes", "to be true or false, got 'yes'; for example it=true"),
        (whole(), "0", "to be a whole number of at least 1, got '0'; for example it=4"),
        (whole(), "2.0", "a whole number of at least 1"),
        (whole(), "-3", "a whole number of at least 1"),
        (whole(), "true", "a whole number of at least 1"),
        (whole(1, 65535), "65536", "a whole number from 1 to 65535"),
        (whole(0, words=("auto",)), "atuo", r"of at least 0 or auto, got 'atuo'; did you mean 'auto'\?"),
        (Number(above=True), "0", "a number above 0, got '0'"),
        (Number(), "nan", "a number of at least 0"),
        (Number(), "inf", "a number of at least 0"),
        (Number(most=1), "1.1", "a number from 0 to 1"),
        (file("x.csv", ".csv", ".parquet"), "x.xlsx", r"a file that ends in \.csv or \.parquet, got 'x\.xlsx'"),
        (file("x"), ".", "to be a file, got '.'; for example it=x"),
        (Names(), "a,,b", "names separated by commas"),
        (NamePairs("", "'{a: b}'"), "[a]", r"pairs of names in braces, got '\[a\]'; for example it='\{a: b\}'"),
        (NamePairs(), "{a: 1", "pairs of names"),
        (NamePairs(), "{a: 1}", "pairs of names"),
        (Devices(), "0", "at least 1, a list such as"),
        (Devices(), "[]", "a list such as"),
        (Devices(), "[-1]", "a list such as"),
        (Devices(), "two", "or auto, got 'two'"),
        (Devices(), "[True]", "a list such as"),
    ],
)
def test_a_text_that_stands_for_no_value_is_refused_with_what_is_taken(kind, text, said):
    with pytest.raises(ConfigError, match=f"^expected it {said}" if said.startswith("to be") else said):
        declared(kind).read(text)


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(ConfigError, match="to be a folder"):
        declared(folder()).read(str(tmp_path / "a.csv"))
    with pytest.raises(ConfigError, match="to be a file"):
        declared(file("a.csv")).read(str(tmp_path))
    for path in (tmp_path, tmp_path / "a.csv"):
        assert declared(Place()).read(str(path)) == path


@dataclass(frozen=True)
class Declared:
    count: int = option(REQUIRED, whole(), "how many", key="loader.count")
    tta: str | None = option(None, TTA, "which")
    share: float = option(0.001, Number(), "how much")
    force: bool = option(False, Truth(), "whether")
    names: tuple[str, ...] = option((), Names(), "who")
    pairs: dict[str, str] = option({}, NamePairs(), "what for what")
    secret: str = option("hidden", Kind(), "what nobody sees", repr=False)
    other: int = 7

    def __post_init__(self):
        check_options(self)


def test_a_dataclass_says_what_its_options_are():
    options = {one.field: one for one in options_of(Declared)}
    assert list(options) == [one.name for one in fields(Declared) if one.name != "other"]
    assert options["count"].key == "loader.count"
    assert [one.field for one in options.values() if one.is_required] == ["count"]
    assert {name: one.written_default for name, one in options.items()} == {
        "count": None, "tta": None, "share": "0.001", "force": "false", "names": None, "pairs": None,
        "secret": "hidden",
    }  # fmt: skip


def test_its_objects_are_ordinary_ones_and_are_checked():
    assert (Declared(3).share, Declared(3).pairs, Declared(3, tta="flips8").tta) == (0.001, {}, "flips8")
    assert Declared(3).pairs is not Declared(3).pairs
    assert "hidden" not in repr(Declared(3))
    for given, said in (
        ({"count": 0}, "loader.count to be a whole number of at least 1, got 0"),
        ({"count": 2.0}, "loader.count"),
        ({"count": None}, "loader.count"),
        ({"tta": "all"}, "tta to be none or flips8"),
        ({"share": float("nan")}, "share to be a number"),
        ({"force": "true"}, "force"),
        ({"force": 0}, "force"),
        ({"names": ("a", "")}, "names"),
    ):
        with pytest.raises(ConfigError, match=said):
            Declared(**{"count": 1, **given})


@pytest.mark.parametrize("devices", [True, [True], [0, True], [False]])
def test_a_truth_value_is_no_device(devices):
    with pytest.raises(ConfigError, match="a whole number of at least 1, a list such as"):
        declared(Devices()).check(devices)
    declared(Devices()).check([0, 1])

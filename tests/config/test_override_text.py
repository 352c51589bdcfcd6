import shlex
import subprocess
from pathlib import Path

import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze, read_job
from lesion_exp.config.overrides import literal, parse_overrides, quoted, stored_overrides
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.sweeps.search.search import GroupOptions, split_overrides
from lesion_exp.terminal import shell_words

ROOT = Path("/project")
AS_WRITTEN = (
    "12e4567", "1.10", "007", "1_000", "1e3", "true", "null", "None", "inf", "nan", "-0", "0x1f", "1:30", "[1.10, b]",
    "{a: 1.10}",
)  # fmt: skip
ODD = (
    "two\nlines", "a, b", "a=b", "it's", 'say "x"', "back\\slash", "tab\there", "\x85next", "\u2028line", "- x", "a: b",
    "# no comment", "é", "\x00", "\\'", "'", "\\", "{", "*a", "!!x", "%", "x\r\ny", "\N{COLLISION SYMBOL}",
)  # fmt: skip


@pytest.mark.parametrize("text", AS_WRITTEN)
def test_a_tag_stays_as_it_was_written(tmp_path, text):
    for override in (f"tags.x={text}", f"+tags.x={text}", f"++tags.x={text}"):
        job = freeze(compose([override], root=ROOT))
        assert job.config["tags"]["x"] == text
        job.write(tmp_path / "job.yaml")
        assert read_job(tmp_path / "job.yaml") == job


@pytest.mark.parametrize("text", ODD)
def test_any_text_in_a_tag_makes_a_job_that_is_read_back(tmp_path, text):
    job = freeze(compose([f"tags.x={quoted(text)}"], root=ROOT))
    assert job.config["tags"]["x"] == text
    job.write(tmp_path / "job.yaml")
    assert read_job(tmp_path / "job.yaml") == job


@pytest.mark.parametrize(
    ("override", "node", "key", "value"),
    [
        ("tracking.experiment=007", "tracking", "experiment", "007"),
        ("tracking.run_name=1.10", "tracking", "run_name", "1.10"),
        ("tracking.run_name=null", "tracking", "run_name", None),
        ("tracking.experiment=true", "tracking", "experiment", "true"),
        ("optimizer.lr=1e-3", "optimizer", "lr", 0.001),
        ("trainer.precision=32", "trainer", "precision", 32),
        ("seed=7", "seed", None, 7),
    ],
)
def test_text_keys_hold_text_and_others_numbers(override, node, key, value):
    found = compose([override], root=ROOT).config[node]
    found = found if key is None else found[key]
    assert found == value
    assert type(found) is type(value)


def test_a_folder_and_the_labels_of_a_table_may_look_like_numbers():
    overrides = [
        "dataset=csv",
        "dataset.root=2024",
        "dataset.table=1e5",
        "dataset.columns={image_id: 007, label: 1.10}",
    ]
    node = compose([*overrides, "dataset.labels={01: nv, 1e2: mel, true: bcc}"], root=ROOT).config["dataset"]
    assert node["root"] == str(Path("2024").absolute())
    assert node["table"] == "1e5"
    assert node["columns"] == {"image_id": "007", "label": "1.10"}
    assert node["labels"] == {"01": "nv", "1e2": "mel", "true": "bcc"}


def test_values_of_text_keys_stay_as_written_in_cells_of_a_sweep():
    plan = plan_sweep(
        ["tracking.run_name=x", "dataset=csv", "dataset.table=1.10,007,'a, b'", "dataset.root=1e3"], root=ROOT
    )
    assert [job.config["dataset"]["table"] for job, _ in plan.cells] == ["1.10", "007", "a, b"]


@pytest.mark.parametrize("text", ["a, b", "age > 0", "it's", "[x", "1.10", "interval(1,2)", "choice(a,b)", "null"])
def test_a_text_in_a_list_of_a_search_space_is_one_value(text):
    _, (dimension,) = split_overrides([], GroupOptions([]), {"dataset.filter": [text, "label == 'nv'"]})
    assert len(dimension.values) == 2
    (read,) = parse_overrides([dimension.override(dimension.values[0])])
    assert read.value() == text or (text == "null" and read.value() is None)


@pytest.mark.parametrize(
    "name", ["conf=v2", "a, b", "it's", "back\\slash", "a [b] {c}", "${x}", "é", 'q"q', "#1", "a%20b"]
)
def test_a_config_folder_and_a_project_may_have_any_name(tmp_path, name):
    folder = tmp_path / name
    (folder / "loss").mkdir(parents=True)
    (folder / "loss" / "mine.yaml").write_text("_target_: lesion_exp.loss.focal.Focal\ngamma: 9.0\n")
    config = compose(["loss=mine"], config_dirs=[folder, folder], root=folder).config
    assert config["loss"]["gamma"] == 9.0
    assert config["paths"]["root"] == str(folder)
    assert config["paths"]["live"] == f"{folder}/mlruns/live"


def test_tags_in_a_yaml_file_stay_as_they_were_written(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ntags:\n  version: 1.10\n  commit: 12e4567\n  note: true\n  who: me\n  number: 7\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    tags = compose(["experiment=mine", "tags.number=08"], config_dirs=[tmp_path], root=tmp_path).config["tags"]
    assert tags == {"version": "1.10", "commit": "12e4567", "note": "true", "who": "me", "number": "08"}


def test_words_of_a_command_are_read_back_by_a_shell():
    words = [word for word in ODD if "\x00" not in word] + ["seed=1", "a b"]
    line = shell_words(words)
    assert "\n" not in line
    assert shlex.split(shell_words(["seed=1", "x=a b"])) == ["seed=1", "x=a b"]
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert said.stdout.decode().split("\0")[:-1] == words


def test_a_literal_holds_no_reference():
    from omegaconf import OmegaConf

    for text in ("${x}", "a\\${x}", "\\\\${x}b${y}", "$x", "\\"):
        assert OmegaConf.create({"a": literal(text)}).a == text


@pytest.mark.parametrize(
    ("override", "stored"),
    [
        ("dataset.root={home}/ham10000", 'dataset.root="~/ham10000"'),
        ("dataset.root='{home}/my data'", "dataset.root='~/my data'"),
        ("+paths.root={home}", '+paths.root="~"'),
        ("tracking.uri=sqlite:///{home}/x.db", 'tracking.uri="sqlite:///~/x.db"'),
        ("dataset.sets={{a: {home}/a, b: {home}/b}}", 'dataset.sets={{a: "~/a", b: "~/b"}}'),
        ("dataset.root=/data/ham10000", "dataset.root=/data/ham10000"),
        ("~augmentation.transforms.rotate", "~augmentation.transforms.rotate"),
    ],
)
def test_a_stored_override_with_the_home_folder_can_be_typed(tmp_path, monkeypatch, override, stored):
    monkeypatch.setenv("HOME", str(tmp_path))
    (found,) = stored_overrides([override.format(home=tmp_path)])
    assert found == stored.format()
    parse_overrides([found])


def test_the_command_of_a_job_with_data_in_the_home_folder_makes_the_same_job(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    job = freeze(compose(["dataset=ham10000", f"dataset.root={tmp_path}/ham10000", "seed=3"], root=tmp_path / "study"))
    job.write(tmp_path / "job.yaml")
    text = (tmp_path / "job.yaml").read_text()
    line = next(line for line in text.splitlines() if "It was made by" in line)
    words = shlex.split(line.partition("lesion-exp train ")[2])
    assert str(tmp_path) not in text
    assert freeze(compose(words, root=tmp_path / "study")).config == job.config

import shlex
from pathlib import Path

import pytest
import yaml

from lesion_exp.config.command_words import (
    config_dir_words,
    place_words,
    store_words,
    trust_words,
    without_place,
)
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.registered import TRUST_VARIABLE

OWN_LOSS = "_target_: clinic_losses.margin\ngap: 1.0  # margin, in logits\n"


def test_the_words_of_the_store_are_those_that_were_typed():
    typed = ["seed=1", "paths.root=/data/my study", "paths.data_cache=/fast", "+tracking.uri=sqlite:///x.db"]
    assert store_words(typed) == ["paths.root=/data/my study", "+tracking.uri=sqlite:///x.db"]


def test_a_moved_run_is_looked_for_where_its_config_says():
    config = {"tracking": {"uri": None}, "paths": {"root": "/here", "live": "/here/live", "sweeps": "/fast"}}
    typed = ["paths.root=/there", "tracking.uri=sqlite:///x.db", "paths.sweeps=../fast"]
    assert place_words(typed, config) == ["paths.root=/here", "paths.sweeps=/fast"]
    assert place_words(["seed=1"], config) == []


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("dataset.root=/data/ph2", "dataset.root=DIR"),
        ("dataset.pseudo_labels=/data/p.csv", "dataset.pseudo_labels=FILE"),
        ("paths.root=/data", "paths.root=ROOT"),
        ("paths.sweeps=/data", "paths.sweeps=DIR"),
        ("tracking.uri=http://server", "tracking.uri=URI"),
        ("tracking.experiment=pilot", "tracking.experiment=pilot"),
    ],
)
def test_a_location_is_replaced_by_the_kind_of_value(typed, shown):
    assert without_place(typed) == shown


@pytest.mark.parametrize(
    "typed", ["loss=mine", "loss='mine'", "+loss=mine", "experiment=my_study", "loss=focal,mine",
              "+augmentation/transform@augmentation.transforms.x=vignette"],
)  # fmt: skip
def test_an_option_that_is_not_shipped_needs_a_folder_of_configs(typed):
    assert config_dir_words(["seed=1", typed]) == ["--config-dir", "DIR"]


@pytest.mark.parametrize(
    "typed", ["loss=focal", "loss=focal,ldam", "pretrain=null", "loss.gamma=3", "seed=1", "tags.loss=mine",
              "loss=glob(*)", "+augmentation/transform@augmentation.transforms.x=hair"],
)  # fmt: skip
def test_shipped_options_need_no_folder(typed):
    assert config_dir_words([typed]) == []


def test_a_shipped_option_that_was_replaced_needs_the_folder():
    assert config_dir_words(["loss=focal"], ["loss/focal.yaml"]) == ["--config-dir", "DIR"]


def test_packages_of_the_users_own_are_named_once_and_shipped_targets_never():
    config = {
        "loss": {"_target_": "clinic_losses.margin", "inner": {"_target_": "clinic_losses.other"}},
        "optimizer": {"_target_": "torch.optim.SGD"},
        "backbone": {"_target_": "lesion_exp.backbone.of_an_earlier_version"},
        "split": {"_target_": "a_split.rule"},
    }
    assert trust_words(config) == ["--trust", "a_split", "--trust", "clinic_losses"]
    assert trust_words(compose([], root=Path("/project")).config) == []


def test_a_job_file_says_how_it_was_made_with_the_users_own_options(tmp_path, monkeypatch):
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text(OWN_LOSS)
    monkeypatch.setenv(TRUST_VARIABLE, "clinic_losses")
    job = freeze(compose(["loss=mine", "seed=3"], config_dirs=[tmp_path / "conf"], root=tmp_path))
    job.write(tmp_path / "job.yaml")
    again, made = (tmp_path / "job.yaml").read_text().splitlines()[:2]
    assert again.endswith("run it again with: lesion-exp train job=job.yaml --trust clinic_losses")
    words = shlex.split(made.partition("made by: ")[2])
    assert words == [
        "lesion-exp", "train", "loss=mine", "seed=3", "--config-dir", "DIR", "--trust", "clinic_losses"
    ]  # fmt: skip
    assert yaml.safe_load((tmp_path / "job.yaml").read_text())["overrides"] == ["loss=mine", "seed=3"]

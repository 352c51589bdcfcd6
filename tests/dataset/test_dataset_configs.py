"""Every YAML of the group names its reader, and every set has its identity card."""

from __future__ import annotations

import importlib
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lesion_exp.dataset.loading import TableOptions
from lesion_exp.dataset.table import DatasetInfo

CONF = Path(__file__).resolve().parents[2] / "conf" / "dataset"
SETS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "base")


@pytest.mark.parametrize("name", SETS)
def test_a_set_names_its_reader(name: str) -> None:
    node = OmegaConf.load(CONF / f"{name}.yaml")
    module, _, function = str(node["_target_"]).rpartition(".")
    assert (module, function) == (f"lesion_exp.dataset.{name}", f"read_{name}")
    assert list(node.get("defaults", [])) == ["base", "_self_"], "begin the YAML with defaults: [base, _self_]"
    assert node["name"] == name


@pytest.mark.parametrize("name", SETS)
def test_each_set_has_its_identity_card(name: str) -> None:
    info = importlib.import_module(f"lesion_exp.dataset.{name}").INFO
    assert isinstance(info, DatasetInfo)
    assert info.name == name
    assert all((info.title, info.citation, info.licence, info.where))


def test_the_common_keys_hold_the_options_defaults() -> None:
    base = OmegaConf.to_container(OmegaConf.load(CONF / "base.yaml"))
    assert isinstance(base, dict)
    for field in fields(TableOptions):
        assert base[field.name] == field.default, field.name

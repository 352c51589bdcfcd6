"""Every YAML of the group has exactly the common keys, `name`, and the arguments of the reader it names."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lesion_exp.dataset.info import DatasetInfo
from lesion_exp.dataset.loading import TableOptions

CONF = Path(__file__).resolve().parents[2] / "conf" / "dataset"
SETS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "base")
BASE = set(OmegaConf.load(CONF / "base.yaml"))


@pytest.mark.parametrize("name", SETS)
def test_keys_are_those_of_the_reader(name: str) -> None:
    node = OmegaConf.load(CONF / f"{name}.yaml")
    module, _, function = str(node["_target_"]).rpartition(".")
    assert (module, function) == (f"lesion_exp.dataset.{name}", f"read_{name}")
    assert list(node["defaults"]) == ["base", "_self_"]
    assert node["name"] == name
    reader = getattr(importlib.import_module(module), function)
    parameters = inspect.signature(reader).parameters
    assert set(node) - {"_target_", "name", "defaults"} - BASE == set(parameters) - BASE
    for key, parameter in parameters.items():
        if OmegaConf.is_interpolation(node, key):
            continue  # a default that follows another key
        missing = OmegaConf.is_missing(node, key)
        assert missing == (parameter.default is parameter.empty), key
        if not missing and key in node:
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert OmegaConf.to_container(node)[key] == default, key


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


@pytest.mark.parametrize("name", [*SETS, "base"])
def test_every_key_is_explained(name: str) -> None:
    for line in (CONF / f"{name}.yaml").read_text().splitlines():
        key = line.partition(":")[0]
        if line and not line.startswith(("#", " ")) and key not in {"defaults", "name", "_target_"}:
            assert "  # " in line or " # " in line, line

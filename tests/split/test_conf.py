from inspect import Parameter, signature
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lesion_exp.job.instantiate import resolve_target
from lesion_exp.split import COMMON_KEYS
from lesion_exp.split.near_duplicates import DEFAULT_THRESHOLD

CONF = Path(__file__).parents[2] / "conf" / "split"
BASE = OmegaConf.load(CONF / "base.yaml")
FILES = sorted(path for path in CONF.glob("*.yaml") if path.stem != "base")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_yaml_has_exactly_the_keys_of_its_splitter(path):
    node = OmegaConf.to_container(OmegaConf.merge(BASE, OmegaConf.load(path)))
    target = resolve_target(node.pop("_target_"), "split")
    assert target.__module__ == f"lesion_exp.split.{path.stem}"
    node.pop("defaults")
    parameters = signature(target).parameters
    assert set(node) - COMMON_KEYS == set(parameters)
    assert all(parameter.default is Parameter.empty for parameter in parameters.values()), "defaults live in the YAML"


def test_the_common_keys_are_in_the_base():
    assert set(BASE) >= COMMON_KEYS
    assert BASE.allow_leakage is False
    assert BASE.part == "test"
    assert BASE.near_duplicate_threshold == DEFAULT_THRESHOLD


def test_the_choices_of_the_contract_are_there():
    names = {"grouped", "kfold", "official", "file", "by_image", "resample_then_split", "held_out"}
    assert {path.stem for path in FILES} == names

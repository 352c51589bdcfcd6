from pathlib import Path

from omegaconf import OmegaConf

from lesion_exp.split import COMMON_KEYS
from lesion_exp.split.groups import DEFAULT_THRESHOLD

CONF = Path(__file__).parents[2] / "conf" / "split"
BASE = OmegaConf.load(CONF / "base.yaml")
FILES = sorted(path for path in CONF.glob("*.yaml") if path.stem != "base")


def test_the_common_keys_are_in_the_base():
    assert set(BASE) >= COMMON_KEYS
    assert BASE.allow_leakage is False
    assert BASE.part == "test"
    assert BASE.near_duplicate_threshold == DEFAULT_THRESHOLD


def test_the_choices_of_the_contract_are_there():
    names = {"grouped", "kfold", "official", "file", "by_image", "resample_then_split", "held_out"}
    assert {path.stem for path in FILES} >= names

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_class

CONF_DIR = Path(__file__).parents[2] / "conf" / "loss"
PASSED_BY_THE_JOB = {"class_counts"}


def test_every_loss_module_has_its_yaml() -> None:
    shipped = {path.stem for path in CONF_DIR.glob("*.yaml")}
    modules = {path.stem for path in (Path(__file__).parents[2] / "lesion_exp" / "loss").glob("*.py")}
    assert shipped == modules - {"__init__", "base", "class_weights"}


@pytest.mark.parametrize("path", sorted(CONF_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_keys_are_the_parameters_with_a_comment_each(path: Path) -> None:
    text = path.read_text()
    node = yaml.safe_load(text)
    target = node.pop("_target_")
    assert target.split(".")[:3] == ["lesion_exp", "loss", path.stem]
    parameters = inspect.signature(get_class(target)).parameters
    assert set(node) == set(parameters) - PASSED_BY_THE_JOB
    for key, value in node.items():
        assert value == parameters[key].default, f"{key} differs from the constructor's default"
        assert any(line.startswith(f"{key}:") and " # " in line for line in text.splitlines())

import inspect
from pathlib import Path

import pytest
import yaml

from lesion_exp.explanation.explainer import Explainer
from lesion_exp.job.instantiate import instantiate, resolve_target

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "conf" / "explanation").glob("*.yaml"))
NO_METHODS = {
    "__init__",
    "cells",
    "class_activation",
    "explainer",
    "localisation",
    "network",
    "overlay",
    "random_weights",
}


def test_every_method_has_its_yaml():
    assert {path.stem for path in FILES} == {
        path.stem for path in (ROOT / "lesion_exp" / "explanation").glob("*.py")
    } - NO_METHODS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_keys_are_the_parameters_with_a_comment_each(path):
    text = path.read_text()
    node = yaml.safe_load(text)
    made = instantiate(node, "explanation")
    assert isinstance(made, Explainer)
    assert made.passes >= 3
    target = node.pop("_target_")
    assert target.split(".")[:3] == ["lesion_exp", "explanation", path.stem]
    parameters = inspect.signature(resolve_target(target, "explanation")).parameters
    assert {key: parameter.default for key, parameter in parameters.items()} == node
    for key in node:
        assert any(line.startswith(f"{key}:") and " # " in line for line in text.splitlines())

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_method, instantiate
from torch import nn

from lesion_exp.scheduler.schedule import Schedule

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "conf" / "scheduler").glob("*.yaml"))
PASSED_BY_THE_JOB = {"optimizer", "total_steps", "steps_per_epoch"}


def test_every_scheduler_module_has_its_yaml() -> None:
    modules = {path.stem for path in (ROOT / "lesion_exp" / "scheduler").glob("*.py")}
    assert {path.stem for path in PATHS} == modules - {"__init__", "schedule", "length"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_keys_are_the_parameters_with_a_comment_each(path: Path) -> None:
    text = path.read_text()
    node = yaml.safe_load(text)
    target = node.pop("_target_")
    assert target == f"lesion_exp.scheduler.{path.stem}.{path.stem}"
    parameters = inspect.signature(get_method(target)).parameters
    assert set(parameters) >= PASSED_BY_THE_JOB
    assert set(node) == set(parameters) - PASSED_BY_THE_JOB
    for key, value in node.items():
        assert value == parameters[key].default, f"{key} differs from the function's default"
        assert any(line.startswith(f"{key}:") and " # " in line for line in text.splitlines())


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_shipped_scheduler_can_be_instantiated(path: Path) -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.1)
    node = yaml.safe_load(path.read_text())
    schedule = instantiate(node, _convert_="all", optimizer=optimizer, total_steps=20, steps_per_epoch=5)
    assert isinstance(schedule, Schedule)
    assert 0 < optimizer.param_groups[0]["lr"] <= 0.1

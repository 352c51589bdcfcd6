from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

CONF_DIR = Path(__file__).parents[2] / "conf" / "optimizer"
NAMES = sorted(path.stem for path in CONF_DIR.glob("*.yaml") if path.stem not in {"base", "logistic_path"})
"""Those that take steps along a gradient; `logistic_path` solves for its weights, see test_logistic_path.py."""
COMMON = {"decay_norms_and_biases"}


def composed(name: str) -> dict[str, object]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        node = OmegaConf.to_container(compose(name))
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def test_the_five_optimizers_of_the_contract_are_shipped() -> None:
    assert set(NAMES) >= {"adam", "adamw", "lamb", "lion", "sgd"}


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_optimizer_descends(name: str) -> None:
    if name in {"lion", "lamb"}:
        pytest.importorskip("pytorch_optimizer", reason="the extra `optimizers` is not installed")
    node = composed(name)
    for key in COMMON:
        node.pop(key)
    weight = nn.Parameter(torch.tensor([[3.0, -2.0]]))
    groups = [{"params": [weight], "weight_decay": 0.0}]
    optimizer = instantiate(node, _convert_="all", params=groups)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups[0]["weight_decay"] == 0.0
    losses = []
    for _ in range(20):
        loss = weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from lesion_exp.errors import ConfigError
from lesion_exp.optimizer.extra import lamb, lion


@pytest.mark.parametrize(("build", "name"), [(lion, "lion"), (lamb, "lamb")])
def test_without_the_extra_the_message_says_what_to_install(
    build: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ConfigError, match=f"optimizer={name}.*pip install pytorch_optimizer"):
        build([nn.Parameter(torch.zeros(1))])


def test_lion_moves_every_weight_by_the_learning_rate() -> None:
    pytest.importorskip("pytorch_optimizer", reason="the extra `optimizers` is not installed")
    weight = nn.Parameter(torch.tensor([3.0, -2.0, 0.001]))
    optimizer = lion([weight], lr=0.01, weight_decay=0.0)
    weight.square().sum().backward()
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([2.99, -1.99, -0.009]))


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_a_step_of_lamb_is_the_learning_rate_times_the_layers_norm(weight_decay: float) -> None:
    pytest.importorskip("pytorch_optimizer", reason="the extra `optimizers` is not installed")
    layers = [nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.full((2, 2), 0.1))]
    optimizer = lamb(layers, lr=0.01, weight_decay=weight_decay)
    for _ in range(3):
        before = [layer.detach().clone() for layer in layers]
        optimizer.zero_grad()
        torch.stack([layer.sum() for layer in layers]).sum().backward()
        optimizer.step()
        for layer, old in zip(layers, before, strict=True):
            assert (layer.detach() - old).norm().item() == pytest.approx(0.01 * old.norm().item(), rel=1e-3)

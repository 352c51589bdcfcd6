"""LoRA changes nothing at first, trains alone, and is merged into the weights without a trace."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from lesion_exp.backbone.lora import add_lora, check_peft, lora_weights, merge_lora, merged_state
from lesion_exp.backbone.options import LoRAOptions, shared_options
from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError
from lesion_exp.task import parameter_groups
from tests.backbone.test_backbones import build

SIZE = 64


def test_product_of_matrices_is_added_to_the_weights_of_linear_layers_and_convolutions() -> None:
    linear, conv = nn.Linear(6, 4), nn.Conv2d(3, 5, 3, bias=False)
    a, b = torch.randn(2, 6), torch.randn(4, 2)
    kernel_a, kernel_b = torch.randn(2, 3, 3, 3), torch.randn(5, 2, 1, 1)
    state = {
        "x.linear.base_layer.weight": linear.weight,
        "x.linear.base_layer.bias": linear.bias,
        "x.linear.lora_A.default.weight": a,
        "x.linear.lora_B.default.weight": b,
        "conv.base_layer.weight": conv.weight,
        "token": torch.ones(1),
        "conv.lora_A.default.weight": kernel_a,
        "conv.lora_B.default.weight": kernel_b,
    }
    merged = merged_state(state, 0.5)
    assert list(merged) == ["x.linear.weight", "x.linear.bias", "conv.weight", "token"]
    inputs, images = torch.randn(3, 6), torch.randn(2, 3, 8, 8)
    beside = linear(inputs) + 0.5 * inputs @ a.T @ b.T
    assert torch.allclose(
        nn.functional.linear(inputs, merged["x.linear.weight"], merged["x.linear.bias"]), beside, atol=1e-5
    )
    low = nn.functional.conv2d(nn.functional.conv2d(images, kernel_a), kernel_b)
    assert torch.allclose(nn.functional.conv2d(images, merged["conv.weight"]), conv(images) + 0.5 * low, atol=1e-4)
    assert merged_state(merged, 0.5).keys() == merged.keys()


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vit":
        return torchvision.models.VisionTransformer(SIZE, 16, 2, 2, 32, 64)
    if name == "swin":
        return torchvision.models.swin_t()
    if name == "resnet":
        return torchvision.models.resnet18()
    return pytest.importorskip("timm").create_model(name, **({"img_size": SIZE} if "vit" in name else {}))


@pytest.mark.parametrize("name", ["vit", "swin", "resnet", "vit_tiny_patch16_224", "tf_efficientnet_lite0"])
def test_outputs_are_equal_before_training_and_after_merging(name: str) -> None:
    pytest.importorskip("peft")
    plain = network(name).eval()
    options, images = LoRAOptions(rank=4, alpha=8), torch.randn(2, 3, SIZE, SIZE)
    tuned = copy.deepcopy(plain)
    add_lora(tuned, options, 3, SIZE)
    tuned.eval()
    added = list(lora_weights(tuned))
    assert len(added) > 10
    assert torch.allclose(tuned(images), plain(images), atol=1e-5), "B is zero"
    for weights in added[1::2]:
        nn.init.normal_(weights, std=0.02)
    expected = tuned(images)
    assert (expected - plain(images)).abs().max() > 0.05
    gradients = torch.autograd.grad(expected.sum(), added, allow_unused=True)
    assert all(found is not None and found.any() for found in gradients), "every matrix takes part"
    names = list(plain.state_dict())
    plain.load_state_dict(merged_state(tuned.state_dict(), options.scaling))
    assert torch.allclose(plain(images), expected, atol=1e-4)
    merge_lora(tuned, options.scaling)
    assert list(tuned.state_dict()) == names
    assert [type(layer) for layer in tuned.modules()] == [type(layer) for layer in plain.modules()]
    with torch.no_grad():  # in which torch may take another way through its attention
        assert torch.equal(tuned(images), plain(images))


def test_matrices_and_head_are_trained_and_nothing_else() -> None:
    pytest.importorskip("peft")
    backbone = build("vit_b_16", 32, tune="lora", lora={"rank": 2, "layers": ["opened_in_proj", "out_proj"]})
    trained = {name for name, weights in backbone.named_parameters() if weights.requires_grad}
    in_groups = {
        id(weights) for group in parameter_groups(backbone, decay_norms_and_biases=False) for weights in group["params"]
    }
    assert {id(backbone.get_parameter(name)) for name in trained} == in_groups
    assert {name.split(".")[-4] for name in trained if "lora" in name} == {"opened_in_proj", "out_proj"}
    assert {name for name in trained if "lora" not in name} == {"head.weight", "head.bias"}
    before = {name: weights.detach().clone() for name, weights in backbone.named_parameters()}
    optimizer = torch.optim.SGD([weights for weights in backbone.parameters() if weights.requires_grad], 0.1)
    backbone.train()(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    changed = {name for name, weights in backbone.named_parameters() if not torch.equal(weights, before[name])}
    assert changed <= trained
    assert any("lora_B" in name for name in changed)


def test_a_checkpoint_with_matrices_brings_merged_weights(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    changes = {"tune": "lora", "lora": {"rank": 2}}
    tuned = build("resnet18", **changes).eval()
    for weights in lora_weights(tuned):
        nn.init.normal_(weights, std=0.02)
    state = {f"backbone.{name}": tensor for name, tensor in tuned.state_dict().items()}
    card = {"config": {"backbone": {"tune": "lora", "lora": {"rank": 2, "alpha": 16.0}}}}
    torch.save({"state_dict": state, "lesion_exp": card}, tmp_path / "last.ckpt")
    images = torch.randn(2, 3, SIZE, SIZE)
    plain = build("resnet18", weights=str(tmp_path / "last.ckpt")).eval()
    assert torch.allclose(plain(images), tuned(images), atol=1e-4)


def test_names_that_fit_no_layer_are_refused_with_those_that_do() -> None:
    pytest.importorskip("peft")
    with pytest.raises(ConfigError, match=r"backbone\.lora\.layers, got qkv; .*conv1, conv2"):
        add_lora(torchvision.models.resnet18(), LoRAOptions(layers=["qkv"]), 3, SIZE)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"lora": {"rank": 0}}, r"backbone\.lora\.rank of at least 1"),
        ({"lora": {"alpha": 0}}, r"backbone\.lora\.alpha above 0"),
        ({"lora": {"dropout": 1.0}}, r"backbone\.lora\.dropout"),
        ({"lora": {"layers": "qkv"}}, r"null or a list of names"),
        ({"lora": {"layers": []}}, r"null or a list of names"),
        ({"lora": {"ranks": 4}}, r"a key of backbone\.lora, got ranks; the keys are rank, alpha"),
        ({"knn": {"k": 0}}, r"backbone\.knn\.k of at least 1"),
        ({"knn": {"temperature": 0.0}}, r"backbone\.knn\.temperature above 0"),
    ],
)
def test_values_out_of_range_are_refused(node: dict[str, dict[str, object]], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        shared_options(node)


def test_names_of_layers_can_be_typed(tmp_path: Path) -> None:
    job = compose(["backbone.tune=lora", "backbone.lora.layers=[qkv,proj]"], root=tmp_path).config
    assert shared_options(job["backbone"]).lora == LoRAOptions(layers=["qkv", "proj"])
    with pytest.raises(ConfigError, match=r"backbone\.lora\.rank"):
        compose(["backbone.lora.rank=0"], root=tmp_path)


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"package peft for backbone\.tune=lora.*pip install peft"):
        check_peft()

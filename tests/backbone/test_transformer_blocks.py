import copy

import pytest
import torch
from torch import nn

from lesion_exp.backbone.depthwise import fast_depthwise_gradients
from lesion_exp.backbone.transformer_blocks import checkpoint_activations, transformer_blocks
from lesion_exp.errors import ConfigError
from tests.backbone.test_backbones import build

SIZES = {"vit_b_16": 32, "swin_t": 32, "maxvit_t": 224}
BLOCKS = {"vit_b_16": 12, "swin_t": 12, "maxvit_t": 11}


def blocks_of(network):
    return transformer_blocks(network, "a", "b")


def small_vit(name="vit_tiny_patch16_224", size=32, **changes):
    return build("timm", size, name=name, **changes)


def step(network, size, dtype=None):
    """Logits, gradients by name and buffers by name of a training step with dropout."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, size, size)
    with torch.autocast("cpu", dtype, enabled=dtype is not None), fast_depthwise_gradients(network):
        logits = network(images)
    logits.float().square().sum().backward()
    gradients = {name: weights.grad for name, weights in network.named_parameters() if weights.grad is not None}
    return logits.detach(), gradients, dict(network.named_buffers())


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert torch.equal(values, other[name]), name


@pytest.mark.parametrize("name", BLOCKS)
def test_the_blocks_of_a_transformer_are_those_with_attention(name):
    blocks = blocks_of(build(name, SIZES[name]))
    assert len(blocks) == BLOCKS[name]
    assert not any(one in list(other.modules())[1:] for one in blocks for other in blocks)


def test_the_blocks_of_a_network_of_timm_are_those_that_it_calls_blocks():
    network = small_vit()
    assert blocks_of(network) == list(network.body.network.blocks)


@pytest.mark.parametrize("name", ["resnet18", "small_cnn"])
def test_a_network_without_blocks_is_refused(name):
    with pytest.raises(ConfigError, match=r"expected a transformer .* set trainer\.activation_checkpointing=false"):
        checkpoint_activations(build(name, attention="se"))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_outputs_gradients_and_statistics_are_the_same(name, dtype):
    kept = build(name, SIZES[name], dropout=0.2).train()
    recomputing = copy.deepcopy(kept)
    checkpoint_activations(recomputing)
    (logits, gradients, buffers), again = step(kept, SIZES[name], dtype), step(recomputing, SIZES[name], dtype)
    assert torch.equal(logits, again[0])
    assert_same(gradients, again[1])
    assert_same(buffers, again[2])  # batch normalisation counts each batch once
    assert kept.state_dict().keys() == recomputing.state_dict().keys()


def test_a_copy_recomputes_with_weights_of_its_own():
    network = small_vit()
    checkpoint_activations(network)
    second = copy.deepcopy(network)
    nn.init.zeros_(second.body.network.blocks[0].mlp.fc1.weight)
    first, other = step(network, 32), step(second, 32)
    assert not torch.equal(first[0], other[0])
    assert other[1].keys() == first[1].keys()


def test_less_is_kept_for_the_backward_pass():
    def kept_bytes(network):
        kept = []
        known = {weights.data_ptr() for weights in network.parameters()}

        def pack(tensor):
            if tensor.data_ptr() not in known:
                kept.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.randn(2, 3, 96, 96))
        return sum(kept)

    network = small_vit(size=96)
    before = kept_bytes(network)
    checkpoint_activations(network)
    assert kept_bytes(network) < before / 5


def test_frozen_blocks_and_evaluation():
    network = small_vit(tune="last:2")
    reference = copy.deepcopy(network)
    checkpoint_activations(network)
    assert_same(step(reference, 32)[1], step(network, 32)[1])
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(reference.eval()(images), network.eval()(images))

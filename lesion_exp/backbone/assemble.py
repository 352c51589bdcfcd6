"""The steps from a whole classification network to a `Backbone`, the same for every family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from lesion_exp.backbone.attention import ATTENTIONS, attention_block
from lesion_exp.backbone.backbone import Backbone, HeadOptions
from lesion_exp.backbone.body import Body
from lesion_exp.backbone.surgery import insert_attention, map_channels, replace, widen_input
from lesion_exp.backbone.weights import load_into, own_state
from lesion_exp.errors import ConfigError


def assemble(
    network: nn.Module,
    make_body: Callable[..., Body],
    options: HeadOptions,
    *,
    head: str,
    cam_path: str,
    is_convolutional: bool,
    attention: str,
    image_size: int,
    state: Mapping[str, Tensor] | None,
    source: str,
) -> Backbone:
    """`network` with its weights loaded, its input widened, attention put in, and its layer `head` replaced by ours.

    Raises:
        ConfigError: attention for a network without feature maps, or weights that do not fit.
    """
    if attention not in ATTENTIONS:
        attention_block(attention, 16)  # raises: the name is unknown
    if attention != "none" and not is_convolutional:
        raise ConfigError(
            f"expected a convolutional network for backbone.attention={attention}; transformers have their "
            f"own: use backbone.attention=none"
        )
    linear = network.get_submodule(head)
    assert isinstance(linear, nn.Linear), "the head is the last linear layer"
    own = own_state(state) if state is not None else None
    if state is not None and own is None:
        load_into(network, state, head, source)
    widen_input(network, options.in_channels)
    if attention != "none":
        channels = map_channels(network, cam_path, options.in_channels, image_size)
        insert_attention(network, attention, cam_path, channels)
    replace(network, head, nn.Identity())
    body = make_body(network, linear.in_features, is_convolutional=is_convolutional, cam_path=cam_path)
    backbone = Backbone(body, options, head)
    if own is not None:
        load_into(backbone, own, "head", source)
    elif state is not None and linear.weight.shape == backbone.head.weight.shape:
        backbone.head.load_state_dict(linear.state_dict())  # a file with the same number of classes brings its head
    return backbone

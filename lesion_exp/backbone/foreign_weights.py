"""Finds the weights of a network in files of other libraries and of larger models, and renames them.

The known names are torchvision's and timm's own names; Hugging Face's ViT, DINOv2, DINOv3, CLIP, ConvNeXt and Swin;
OpenCLIP's `visual.`; CAE (PanDerm); efficientnet_pytorch; and all of these below a prefix, as DINO, MoCo, MAE, SimCLR,
BYOL and Lightning write them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from lesion_exp.backbone.network import State

Rules = tuple[tuple[str, str], ...]
"""Regular expressions and what each is replaced by, one after the other."""
PARTS_BESIDE: Final = re.compile(
    r"head|heads|fc|classifier|pooler|proj|projector|projectors|projection|projection_head|projection_mlp|predictor|"
    r"prediction_head|prediction_mlp|online_predictor|decoder\w*|mask_token|queue\w*|momentum\w*|\w*_momentum|student\w*|"
    r"teacher\w*|target\w*|online\w*|base_encoder|encoder_k|encoder_q|model_ema|ema|text\w*|transformer|token_embedding|"
    r"positional_embedding|ln_final|logit_scale|logit_bias|visual_projection|attn_mask|criterion|\w*loss\w*|prototypes|"
    r"fc_norm|rope_embed|rope_embeddings|aux\d?|AuxLogits|position_ids"
)
"""Parts that larger models have beside an encoder: heads, the text encoder, the decoder, other copies."""
_OTHER_COPIES: Final = ("student", "encoder_k", "momentum", "target", "_k.")
"""Words in the prefix of a copy of the encoder beside the one that its authors evaluate."""
_TRANSFORMER: Final[Rules] = (
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embeddings?(\.weight)?$", "pos_embed"),
    (r"^embeddings\.patch_embeddings?\.(projection\.)?", "patch_embed.proj."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^(encoder\.layer|encoder\.layers|model\.layer|layers|layer)\.(\d+)\.", r"blocks.\2."),
    (r"\.(attention\.attention|attention|self_attn)\.(query|key|value)\.", r".attn.\2."),
    (r"\.(attention|self_attn)\.([qkv])_proj\.", r".attn.\2."),
    (r"\.(attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.up_proj|mlp\.weights_in)\.", ".mlp.fc1."),
    (r"\.(output\.dense|mlp\.down_proj|mlp\.weights_out)\.", ".mlp.fc2."),
    (r"\.(layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^(layernorm|post_layernorm)\.", "norm."),
)
_GATED: Final[Rules] = (
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.up_proj\.", ".mlp.fc1_x."),
)
"""What comes before the rules of transformers with gated layers, as the larger DINOv3 have them."""
_CONVNEXT: Final[Rules] = (
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.layernorm\.", ".norm."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.layer_scale_parameter$", ".gamma"),
    (r"^layernorm\.", "head.norm."),
)
_CONVNEXT_OF_DINOV3: Final[Rules] = (
    (r"^stages\.0\.downsample_layers\.", "stem."),
    (r"^stages\.(\d+)\.downsample_layers\.", r"stages.\1.downsample."),
    (r"^stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
    (r"\.depthwise_conv\.", ".conv_dw."),
    (r"\.layer_norm\.", ".norm."),
    (r"\.pointwise_conv([12])\.", r".mlp.fc\1."),
    (r"^layer_norm\.", "head.norm."),
)
_SWIN: Final[Rules] = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.layers\.", "layers."),
    (
        r"\.attention\.(self|relative_position_bias)\.relative_position_bias_table$",
        ".attn.relative_position_bias_table",
    ),
    (r"\.attention\.self\.relative_position_index$", ".attn.relative_position_index"),
    (r"\.attention\.self\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "norm."),
)
_VIT_OF_TORCHVISION: Final[Rules] = (
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^norm\.", "encoder.ln."),
    (r"^head\.", "heads.head."),
)
_VIT_OF_TIMM: Final[Rules] = (
    (r"^class_token$", "cls_token"),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
)
_CONVNEXT_OF_TORCHVISION: Final[Rules] = (
    (r"^stem\.", "features.0."),
    (r"\.gamma$", ".layer_scale"),
    (r"\.conv_dw\.", ".block.0."),
    (r"(blocks\.\d+)\.norm\.", r"\1.block.2."),
    (r"\.mlp\.fc1\.", ".block.3."),
    (r"\.mlp\.fc2\.", ".block.5."),
    (r"^head\.norm\.", "classifier.0."),
    (r"^head\.(fc\.)?(weight|bias)$", r"classifier.2.\2"),
)
_SWIN_OF_TORCHVISION: Final[Rules] = (
    (r"^patch_embed\.proj\.", "features.0.0."),
    (r"^patch_embed\.norm\.", "features.0.2."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^head\.fc\.", "head."),
)
_RESNET_IN_SEQUENCE: Final[Rules] = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^4\.", "layer1."),
    (r"^5\.", "layer2."),
    (r"^6\.", "layer3."),
    (r"^7\.", "layer4."),
)
"""A ResNet as `nn.Sequential` of its children, as lightly's examples make it."""
_FIRST_OF_DINOV3: Final = "stages.0.downsample_layers.0.weight"
"""With this name DINOv3's ConvNeXt of Hugging Face begins."""
_FIRST_NAMES: Final = (
    "0.weight", _FIRST_OF_DINOV3,
    "embeddings.cls_token", "embeddings.class_embedding", "embeddings.patch_embeddings.weight",
    "embeddings.patch_embeddings.projection.weight", "visual.class_embedding", "visual.conv1.weight",
    "visual.trunk.patch_embed.proj.weight", "visual.trunk.stem.0.weight", "_conv_stem.weight", "class_token",
    "cls_token", "patch_embed.proj.weight", "stem.0.weight", "conv1.weight",
)  # fmt: skip
"""Names with which the encoders of libraries begin: what stands before one of them is a prefix."""


@dataclass(frozen=True)
class Found:
    """The weights for a network that were found in a file.

    Args:
        state: the tensors by the names of the network, and tensors that the network does not have under other names.
        prefix: the beginning of their names in the file, which was removed.
        beside: names in the file that do not begin with this prefix.
        copies: prefixes of further copies of the same encoder.
    """

    state: dict[str, Tensor]
    prefix: str = ""
    beside: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


def find_weights(state: State, expected: State, renamed: Callable[[State], State]) -> Found:
    """Returns the tensors of `state`, the content of a file, for the network whose names and tensors are `expected`.

    Every prefix below which an encoder can lie is tried with every known naming of layers. The result is the attempt in
    which most tensors of the network are found by name and shape. `renamed` is the function with which the library of
    the network reads files.
    """
    found: list[Found] = []
    for prefix in _prefixes(state, expected):
        below, used = _below(state, prefix)
        beside = tuple(name for name in state if name not in used)
        found += [Found(_in_shapes(one, expected), prefix, beside) for one in _renamings(below, expected, renamed)]
    scores = [num_fitting(one.state, expected) for one in found]
    best, score = max(zip(found, scores, strict=True), key=lambda pair: (pair[1], -_is_other_copy(pair[0].prefix)))
    alike = {one.prefix for one, its in zip(found, scores, strict=True) if its == score and one.prefix}
    copies = tuple(sorted(prefix for prefix in alike if not best.prefix.startswith(prefix)))
    return replace(best, beside=tuple(name for name in best.beside if not name.startswith(copies)), copies=copies)


def num_fitting(state: State, expected: State) -> int:
    """Returns the number of tensors of the network that `state` has with the same name and shape."""
    return sum(name in state and state[name].shape == tensor.shape for name, tensor in expected.items())


def stands_beside(name: str) -> bool:
    """Returns whether the tensor `name` of a file belongs to a part that larger models have beside an encoder."""
    return any(PARTS_BESIDE.fullmatch(part) for part in name.split(".")[:3])


def _is_other_copy(prefix: str) -> bool:
    return any(word in prefix for word in _OTHER_COPIES)


def _prefixes(state: State, expected: State) -> list[str]:
    firsts = {*_FIRST_NAMES, *list(expected)[:3]}
    ends = [(name, first) for name in state for first in firsts if name == first or name.endswith(f".{first}")]
    return list(dict.fromkeys(["", *(name[: len(name) - len(first)] for name, first in ends)]))


def _below(state: State, prefix: str) -> tuple[dict[str, Tensor], set[str]]:
    """Returns the tensors below the prefix, and their names in the file; Hugging Face's classifier is outside of it."""
    used = {name: name.removeprefix(prefix) for name in state if name.startswith(prefix)}
    if prefix and any(name.startswith("embeddings.") for name in used.values()):
        used |= {name: name for name in state if name.startswith("classifier.")}
    if prefix.endswith("model.") and _FIRST_OF_DINOV3 in used.values():  # the last norm lies outside, too
        outside = prefix.removesuffix("model.")
        used |= {name: name.removeprefix(outside) for name in state if name.startswith(f"{outside}layer_norm.")}
    return {new: state[old] for old, new in used.items()}, set(used)


def _renamings(state: State, expected: State, renamed: Callable[[State], State]) -> Iterator[State]:
    """Yields `state` in the names of every library that it can come from, as the network's own library reads them."""
    yield _read(renamed, state)
    if any(name.endswith((".attn.q_bias", ".gamma_1", ".ls1.gamma")) for name in state):
        plain = without_scales(state, expected)
        yield _read(renamed, plain)
        yield from (_read(renamed, other) for other in _of_torchvision(plain, expected))
    for rules in _rules_of(state):
        timms = joined(with_rules(state, rules), expected)
        yield _read(renamed, timms)
        yield from (_read(renamed, other) for other in _of_torchvision(timms, expected))
    yield from (_read(renamed, other) for other in _of_torchvision(state, expected))
    if "conv1.weight" in expected and "0.weight" in state:
        yield _read(renamed, with_rules(state, _RESNET_IN_SEQUENCE))
    if "class_token" in state:
        yield _read(renamed, with_rules(state, _VIT_OF_TIMM))


def _read(renamed: Callable[[State], State], state: State) -> State:
    try:
        return renamed(state)
    except Exception:  # a library's reader meets the names of another
        return state


def _rules_of(state: State) -> list[Rules]:
    """Returns how Hugging Face's names in `state` become timm's."""
    if any(name.startswith("encoder.stages.0.layers.") for name in state):
        return [_CONVNEXT]
    if _FIRST_OF_DINOV3 in state:
        return [_CONVNEXT_OF_DINOV3]
    if "embeddings.norm.weight" in state:
        return [_SWIN]
    if any(".mlp.gate_proj." in name for name in state):
        return [_GATED + _TRANSFORMER]
    return [_TRANSFORMER] if any(name.startswith("embeddings.") for name in state) else []


def with_rules(state: State, rules: Rules) -> dict[str, Tensor]:
    """Returns `state` with every rule applied to its names. Swin's reductions move to the stage that they begin."""
    made = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if rules is _SWIN:
            new = re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", new)
        made[new] = tensor
    return made


def joined(state: State, expected: State) -> dict[str, Tensor]:
    """Returns `state` with queries, keys and values in one matrix and tokens in timm's shapes, as in `expected`."""
    made, parts = {}, dict[tuple[str, str], dict[str, Tensor]]()
    for name, tensor in state.items():
        match = re.fullmatch(r"(.*\.attn)\.(q|k|v|query|key|value)\.(weight|bias)", name)
        if match:
            parts.setdefault((match[1], match[3]), {})[match[2][0]] = tensor
        elif name == "mask_token" and "pos_embed" not in expected:
            continue  # with this tensor timm would take weights of DINOv3 for those of another method
        elif name == "cls_token" and tensor.ndim == 1:
            made[name] = tensor[None, None]
        elif name == "pos_embed" and tensor.ndim == 2:
            made[name] = tensor[None]
        else:
            made[_name_in(name, expected)] = tensor
    for (layer, kind), found in parts.items():
        made |= _joined(layer, kind, found, expected)
    return made


def _name_in(name: str, expected: State) -> str:
    """Returns the name of a layer's scale and of registers where the network calls them otherwise."""
    other = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name)
    if other in expected:
        return other
    if name.startswith("classifier."):
        head = name.replace("classifier.", "head.fc.")
        return head if head in expected else name.replace("classifier.", "head.")
    return (
        "reg_token" if name == "register_tokens" and "cls_token" in expected and "pos_embed" not in expected else name
    )


def _joined(layer: str, kind: str, found: Mapping[str, Tensor], expected: State) -> dict[str, Tensor]:
    if kind == "bias" and set(found) == {"q", "v"}:  # DINOv3's keys have none
        if f"{layer}.q_bias" in expected:
            return {f"{layer}.q_bias": found["q"], f"{layer}.v_bias": found["v"]}
        if f"{layer}.qkv.bias" not in expected and not any(bias.any() for bias in found.values()):
            return {}
        found = {**found, "k": torch.zeros_like(found["q"])}
    if set(found) != set("qkv"):
        return {f"{layer}.{part}.{kind}": tensor for part, tensor in found.items()}
    return {f"{layer}.qkv.{kind}": torch.cat([found[part] for part in "qkv"])}


def without_scales(state: State, expected: State) -> dict[str, Tensor]:
    """Returns weights of CAE (Chen et al. 2022, arXiv:2202.03026), in timm's names, for a network without its parts.

    In CAE queries and values have biases of their own, and keys have none; they become the bias of one layer. If the
    network has no scales for the outputs of its layers, those of the file are multiplied into the weights.
    """
    scaled = any(name.endswith((".gamma_1", ".ls1.gamma")) for name in expected)
    apart = any(name.endswith(".q_bias") for name in expected)
    made, factors = {}, dict[str, Tensor]()
    for name, tensor in state.items():
        match = re.fullmatch(r"(.*)\.(?:gamma_|ls)([12])(?:\.gamma)?", name)
        if match and not scaled:
            factors[f"{match[1]}.{'attn.proj' if match[2] == '1' else 'mlp.fc2'}"] = tensor
        elif name.endswith(".attn.q_bias") and not apart:
            layer = name.removesuffix(".q_bias")
            values = state.get(f"{layer}.v_bias", torch.zeros_like(tensor))
            made[f"{layer}.qkv.bias"] = torch.cat([tensor, torch.zeros_like(tensor), values])
        elif not (name.endswith(".attn.v_bias") and not apart):
            made[name] = tensor
    for layer, factor in factors.items():
        for kind in ("weight", "bias"):
            if f"{layer}.{kind}" in made:
                weights = made[f"{layer}.{kind}"]
                made[f"{layer}.{kind}"] = weights * factor.view(-1, *(1,) * (weights.ndim - 1))
    return made


def _of_torchvision(state: State, expected: State) -> Iterator[dict[str, Tensor]]:
    """Yields `state`, in timm's names, in those of torchvision's network whose names are `expected`."""
    if "class_token" in expected:
        yield with_rules(state, _VIT_OF_TORCHVISION)
    elif "features.1.0.layer_scale" in expected:
        yield _in_shapes(_staged(with_rules(state, _CONVNEXT_OF_TORCHVISION), r"stages"), expected)
    elif "features.1.0.attn.relative_position_bias_table" in expected:
        yield _in_shapes(_staged(with_rules(state, _SWIN_OF_TORCHVISION), r"layers"), expected)


def _staged(state: State, stages: str) -> dict[str, Tensor]:
    """timm's stages with what is in front of each as torchvision's one list of stages and of what lies between them."""

    def numbered(name: str) -> str:
        name = re.sub(rf"^{stages}\.(\d+)\.downsample\.", lambda m: f"features.{2 * int(m[1])}.", name)
        return re.sub(rf"^{stages}\.(\d+)\.blocks\.", lambda m: f"features.{2 * int(m[1]) + 1}.", name)

    return {numbered(name): tensor for name, tensor in state.items()}


def _in_shapes(state: State, expected: State) -> dict[str, Tensor]:
    """Returns `state` with axes of length 1 added or taken away where only these differ from `expected`."""

    def fitted(name: str, tensor: Tensor) -> Tensor:
        wanted = expected.get(name)
        same = wanted is not None and _long(wanted.shape) == _long(tensor.shape)
        return tensor.reshape(wanted.shape) if same and wanted is not None else tensor

    return {name: fitted(name, tensor) for name, tensor in state.items()}


def _long(shape: Iterable[int]) -> list[int]:
    return [length for length in shape if length != 1]

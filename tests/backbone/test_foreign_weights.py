"""Weights in the formats of other libraries, made from small networks of theirs: the outputs must be theirs, too."""

import json
from argparse import Namespace

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models.convnext import CNBlockConfig

from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.foreign_weights import find_weights
from lesion_exp.backbone.network import Network
from lesion_exp.backbone.options import InputsAndOutputs, SharedOptions
from lesion_exp.backbone.surgery import last_linear
from lesion_exp.backbone.timm import _renamed as renamed_by_timm
from lesion_exp.backbone.weights import load_into, own_state, read_state
from lesion_exp.config.freeze import file_digests
from lesion_exp.errors import ConfigError
from tests.backbone.test_backbones import build


def needs(package):
    return pytest.importorskip(package, reason=f"{package} is not installed")


def drawn(network):
    """The network with weights of which none is 0 or 1, in evaluation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and "running_var" not in name:
                tensor.copy_(tensor + 0.02 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


def images(side):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-3)


def saved(model, tmp_path, way):
    """The weights of a network of transformers: as it saves them for the hub, or as its own state_dict names them."""
    if way == "hub":
        model.save_pretrained(tmp_path)
        return str(tmp_path / "model.safetensors")
    torch.save(model.state_dict(), tmp_path / "state.pth")
    return str(tmp_path / "state.pth")


def of_timm(name, **options):
    return needs("timm").create_model(name, **{"depth": 2, "embed_dim": 64, "num_heads": 2, "img_size": 32, **options})


def loaded(network, file):
    """`network` with the weights of the file, as a backbone gets them."""
    found = find_weights(read_state(file), network.state_dict(), lambda state: renamed_by_timm(state, network))
    load_into(network, found, last_linear(network), file)
    return network.eval()


def small(**changes):
    return {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256,
            "image_size": 32, "patch_size": 16, **changes}  # fmt: skip


WAYS = pytest.mark.parametrize("way", ["hub", "state_dict"])


@WAYS
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_vit_of_transformers(tmp_path, way, library):
    transformers = needs("transformers")
    config = transformers.ViTConfig(**small(layer_norm_eps=1e-6), num_labels=7)
    model = drawn(transformers.ViTForImageClassification(config))
    vit = of_timm("vit_tiny_patch16_224", num_classes=7) if library == "timm" else torchvisions_vit()
    ours = loaded(vit, saved(model, tmp_path, way))
    with torch.inference_mode():
        assert_same(ours(images(32)), model(images(32)).logits)


def torchvisions_vit():
    return torchvision.models.VisionTransformer(32, 16, 2, 2, 64, 256, num_classes=7)


@WAYS
@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_of_transformers(tmp_path, way, registers):
    transformers = needs("transformers")
    shape = small(patch_size=14, image_size=56)
    del shape["intermediate_size"]
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**shape, num_register_tokens=registers)
        model = drawn(transformers.Dinov2WithRegistersModel(config))
    else:
        model = drawn(transformers.Dinov2Model(transformers.Dinov2Config(**shape)))
    name = "vit_small_patch14_reg4_dinov2" if registers else "vit_small_patch14_dinov2"
    ours = loaded(of_timm(name, img_size=56, num_classes=7), saved(model, tmp_path, way))
    with torch.inference_mode():
        assert_same(ours.forward_features(images(56)), model(images(56)).last_hidden_state)


@WAYS
@pytest.mark.parametrize("biased", [True, False])
def test_dinov3_of_transformers(tmp_path, way, biased):
    transformers = needs("transformers")
    model = drawn(transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**small(), num_register_tokens=4)))
    if not biased:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name.endswith(("q_proj.bias", "v_proj.bias")):
                    tensor.zero_()
    file = saved(model, tmp_path, way)
    plain, with_biases = "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"
    ours = loaded(of_timm(with_biases if biased else plain, num_classes=7), file)
    with torch.inference_mode():
        assert_same(ours.forward_features(images(32)), model(images(32)).last_hidden_state)
    if biased:
        with pytest.raises(ConfigError, match=r"blocks\.0\.attn\.qkv\.bias: not in the network"):
            loaded(of_timm(plain, num_classes=7), file)


def of_dinov3(name, **options):
    return drawn(of_timm(name, num_classes=7, **options))


def of_hugging_face(network):
    """The weights of timm's DINOv3 as Hugging Face names them, with gated layers if it has them."""
    pairs = [("cls_token", "embeddings.cls_token"), ("reg_token", "embeddings.register_tokens"),
             ("patch_embed.proj.", "embeddings.patch_embeddings."), ("blocks.", "layer."), ("gamma_", "layer_scale"),
             ("attn.proj.", "attention.o_proj."), ("attn.q_bias", "attention.q_proj.bias"),
             ("attn.v_bias", "attention.v_proj.bias"), ("mlp.fc1_g.", "mlp.gate_proj."), ("mlp.fc1_x.", "mlp.up_proj."),
             ("mlp.fc1.", "mlp.up_proj."), ("mlp.fc2.", "mlp.down_proj.")]  # fmt: skip
    state = {"embeddings.mask_token": torch.zeros(1, 1, 64)}
    for name, tensor in network.state_dict().items():
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        if name.endswith("attn.qkv.weight"):
            layer = name.removesuffix("attn.qkv.weight")
            state |= {f"{layer}attention.{part}_proj.weight": each
                      for part, each in zip("qkv", tensor.chunk(3), strict=True)}  # fmt: skip
        elif not name.startswith("head."):
            state[f"{name}.lambda1" if "layer_scale" in name else name] = tensor
    return state


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3_qkvb", "vit_small_plus_patch16_dinov3_qkvb"])
def test_dinov3_with_and_without_gated_layers_in_the_names_of_transformers(name, tmp_path):
    theirs = of_dinov3(name)
    save_file({key: tensor.contiguous() for key, tensor in of_hugging_face(theirs).items()}, tmp_path / "m.safetensors")
    assert any("gate_proj" in key for key in of_hugging_face(theirs)) == ("plus" in name)
    ours = loaded(of_timm(name, num_classes=7), str(tmp_path / "m.safetensors"))
    with torch.inference_mode():
        assert_same(ours.forward_features(images(32)), theirs.forward_features(images(32)))


@WAYS
def test_gated_dinov3_of_transformers(tmp_path, way):
    transformers = needs("transformers")
    config = transformers.DINOv3ViTConfig(**small(), num_register_tokens=4, use_gated_mlp=True, hidden_act="silu")
    model = drawn(transformers.DINOv3ViTModel(config))
    ours = loaded(of_timm("vit_small_plus_patch16_dinov3_qkvb", num_classes=7), saved(model, tmp_path, way))
    with torch.inference_mode():
        assert_same(ours.forward_features(images(32)), model(images(32)).last_hidden_state)


def of_meta(network):
    """The weights of timm's DINOv3 in the names of Meta's own file."""
    state = {"mask_token": torch.zeros(1, 64)}
    for name, tensor in network.state_dict().items():
        if name.endswith(".attn.q_bias"):
            layer = name.removesuffix("q_bias")
            values = network.state_dict()[f"{layer}v_bias"]
            state[f"{layer}qkv.bias"] = torch.cat([tensor, torch.ones_like(tensor), values])
            state[f"{layer}qkv.bias_mask"] = torch.cat([torch.ones(64), torch.zeros(64), torch.ones(64)])
        elif not name.startswith("head.") and not name.endswith(".attn.v_bias"):
            name = name.replace("reg_token", "storage_tokens").replace("gamma_1", "ls1.gamma")
            state[name.replace("gamma_2", "ls2.gamma")] = tensor
    return state


@pytest.mark.parametrize("biased", [True, False])
def test_biases_in_metas_file_of_dinov3_are_not_lost(biased, tmp_path, capsys):
    theirs = of_dinov3("vit_small_patch16_dinov3_qkvb")
    if not biased:
        with torch.no_grad():
            for block in theirs.blocks:
                block.attn.q_bias.zero_()
                block.attn.v_bias.zero_()
    torch.save(of_meta(theirs), tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth")
    file = str(tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth")
    with_biases = loaded(of_timm("vit_small_patch16_dinov3_qkvb", num_classes=7), file)
    with torch.inference_mode():
        expected = theirs.forward_features(images(32))
        assert_same(with_biases.forward_features(images(32)), expected)
        if biased:
            with pytest.raises(ConfigError, match=r"blocks\.0\.attn\.qkv\.bias: not in the network"):
                loaded(of_timm("vit_small_patch16_dinov3", num_classes=7), file)
        else:
            plain = loaded(of_timm("vit_small_patch16_dinov3", num_classes=7), file)
            assert_same(plain.forward_features(images(32)), expected)
    assert capsys.readouterr().out == "", "standard output of train is the id of the run alone"


def test_features_of_dinov3_are_its_class_token():
    needs("timm")
    backbone = build("timm", 32, name="vit_small_patch16_dinov3_qkvb").eval()
    with torch.inference_mode():
        tokens = backbone.body.network.forward_features(images(32))
        assert_same(backbone.encode(images(32)), tokens[:, 0])
        assert not torch.allclose(tokens[:, 0], tokens[:, 5:].mean(dim=1), atol=1e-2)


@WAYS
def test_features_of_dinov3_are_those_of_transformers(tmp_path, way):
    transformers, _ = needs("transformers"), needs("timm")
    shape = small(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    model = drawn(transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**shape, num_register_tokens=4)))
    name = "vit_small_patch16_dinov3_qkvb"
    ours = build("timm", 32, name=name, weights=saved(model, tmp_path, way)).eval()
    with torch.inference_mode():
        assert_same(ours.encode(images(32)), model(images(32)).pooler_output)


def test_dinov2_giant_has_gated_layers_in_one_matrix(tmp_path):
    shape = {"embed_dim": 96, "img_size": 28, "num_classes": 7}
    theirs = drawn(of_timm("vit_giant_patch14_dinov2", **shape))
    pairs = [("cls_token", "embeddings.cls_token"), ("pos_embed", "embeddings.position_embeddings"),
             ("patch_embed.proj.", "embeddings.patch_embeddings.projection."), ("blocks.", "encoder.layer."),
             ("attn.proj.", "attention.output.dense."), ("ls1.gamma", "layer_scale1.lambda1"),
             ("ls2.gamma", "layer_scale2.lambda1"), ("mlp.fc1.", "mlp.weights_in."),
             ("mlp.fc2.", "mlp.weights_out.")]  # fmt: skip
    state = {}
    for name, tensor in theirs.state_dict().items():
        for ours, hub in pairs:
            name = name.replace(ours, hub)
        layer, found, kind = name.partition("attn.qkv.")
        parts = ("query", "key", "value")
        if found:
            state |= {f"{layer}attention.attention.{part}.{kind}": each
                      for part, each in zip(parts, tensor.chunk(3), strict=True)}  # fmt: skip
        elif not name.startswith("head."):
            state[f"layer{name}" if name.startswith("norm.") else name] = tensor
    torch.save(state, tmp_path / "giant.pth")
    ours = loaded(of_timm("vit_giant_patch14_dinov2", **shape), str(tmp_path / "giant.pth"))
    with torch.inference_mode():
        assert_same(ours.forward_features(images(28)), theirs.forward_features(images(28)))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_convnext_of_dinov3_in_the_names_of_transformers(prefix, tmp_path):
    def network():
        widths = (8, 16, 32, 64)
        return needs("timm").create_model("convnext_tiny", depths=(1, 2, 1, 1), dims=widths, num_classes=7)

    theirs = drawn(network())
    pairs = [("stem.", "stages.0.downsample_layers."), (".downsample.", ".downsample_layers."),
             (".blocks.", ".layers."),
             (".conv_dw.", ".depthwise_conv."), (".norm.", ".layer_norm."), (".mlp.fc", ".pointwise_conv"),
             ("head.layer_norm.", "layer_norm.")]  # fmt: skip
    state = {}
    for name, tensor in theirs.state_dict().items():
        for ours, hub in pairs:
            name = name.replace(ours, hub)
        if not name.startswith("head."):
            state[name if name.startswith("layer_norm.") else f"{prefix}{name}"] = tensor
    torch.save(state, tmp_path / "convnext.pth")
    ours = loaded(network(), str(tmp_path / "convnext.pth"))
    with torch.inference_mode():
        features = [each.forward_head(each.forward_features(images(64)), pre_logits=True) for each in (ours, theirs)]
        assert_same(*features)


@WAYS
def test_convnext_of_dinov3_of_transformers(tmp_path, way):
    transformers = needs("transformers")
    widths = [8, 16, 32, 64]
    config = transformers.DINOv3ConvNextConfig(depths=[1, 2, 1, 1], hidden_sizes=widths)
    model = drawn(transformers.DINOv3ConvNextModel(config))
    network = needs("timm").create_model("convnext_tiny", depths=(1, 2, 1, 1), dims=widths, num_classes=7)
    ours = loaded(network, saved(model, tmp_path, way))
    with torch.inference_mode():
        features = ours.forward_head(ours.forward_features(images(64)), pre_logits=True)
        assert_same(features, model(images(64)).pooler_output)


@WAYS
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_convnext_of_transformers(tmp_path, way, library):
    transformers = needs("transformers")
    widths = [8, 16, 32, 64]
    config = transformers.ConvNextConfig(depths=[1, 2, 1, 1], hidden_sizes=widths, num_labels=7)
    model = drawn(transformers.ConvNextForImageClassification(config))
    if library == "timm":
        network = needs("timm").create_model("convnext_atto", depths=(1, 2, 1, 1), dims=widths, num_classes=7)
    else:
        blocks = zip(widths, [*widths[1:], None], (1, 2, 1, 1), strict=True)
        network = torchvision.models.ConvNeXt([CNBlockConfig(*block) for block in blocks], num_classes=7)
    ours = loaded(network, saved(model, tmp_path, way))
    with torch.inference_mode():
        assert_same(ours(images(64)), model(images(64)).logits)


@WAYS
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_swin_of_transformers(tmp_path, way, library):
    transformers = needs("transformers")
    shape = {"embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2]}
    config = transformers.SwinConfig(**shape, image_size=56, num_labels=7)
    model = drawn(transformers.SwinForImageClassification(config))
    if library == "timm":
        network = needs("timm").create_model("swin_tiny_patch4_window7_224", img_size=56, num_classes=7, **shape)
    else:
        network = torchvision.models.SwinTransformer([4, 4], window_size=[7, 7], num_classes=7, **shape)
    ours = loaded(network, saved(model, tmp_path, way))
    with torch.inference_mode():
        assert_same(ours(images(56)), model(images(56)).logits)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_images_tower_of_openclip(tmp_path, prefix):
    open_clip = needs("open_clip")
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    vision = {"width": 64, "layers": 2, "head_width": 32, "patch_size": 32, "image_size": 64}
    model = drawn(open_clip.CLIP(24, vision, text))
    torch.save({f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "clip.pt")
    ours = loaded(of_timm("vit_base_patch32_clip_224", img_size=64, num_classes=24), tmp_path / "clip.pt")
    with torch.inference_mode():
        assert_same(ours(images(64)), model.encode_image(images(64)))


def test_the_images_tower_of_clip_of_transformers(tmp_path):
    transformers = needs("transformers")
    vision = small(image_size=64, patch_size=32, hidden_act="gelu")
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = drawn(transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=text)))
    network = of_timm("vit_base_patch32_clip_224", img_size=64, num_classes=7)
    ours = loaded(network, saved(model, tmp_path, "hub"))
    with torch.inference_mode():
        features = ours.forward_head(ours.forward_features(images(64)), pre_logits=True)
        assert_same(features, model.vision_model(images(64)).pooler_output)


class QuickGELU(torch.nn.Module):
    """The activation of OpenAI's CLIP, and of MONET, which was trained from it."""

    def forward(self, values):
        return values * torch.sigmoid(1.702 * values)


class OpenAIsBlock(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        layers = {"c_fc": torch.nn.Linear(width, 4 * width), "gelu": QuickGELU(),
                  "c_proj": torch.nn.Linear(4 * width, width)}  # fmt: skip
        self.mlp = torch.nn.Sequential()
        for name, layer in layers.items():
            self.mlp.add_module(name, layer)

    def forward(self, tokens):
        shown = self.ln_1(tokens)
        tokens = tokens + self.attn(shown, shown, shown, need_weights=False)[0]
        return tokens + self.mlp(self.ln_2(tokens))


class OpenAIsTransformer(torch.nn.Module):
    def __init__(self, width, heads, layers):
        super().__init__()
        self.resblocks = torch.nn.Sequential(*(OpenAIsBlock(width, heads) for _ in range(layers)))


class OpenAIsVisual(torch.nn.Module):
    """A vision transformer with the parts and the names of OpenAI's CLIP."""

    def __init__(self, side, patch, width, heads, layers, outputs):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = torch.nn.Parameter(torch.zeros(width))
        self.positional_embedding = torch.nn.Parameter(torch.zeros((side // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.transformer = OpenAIsTransformer(width, heads, layers)
        self.proj = torch.nn.Parameter(torch.zeros(width, outputs))

    def forward(self, shown):
        tokens = self.conv1(shown).flatten(2).permute(0, 2, 1)
        first = self.class_embedding.expand(len(tokens), 1, -1)
        tokens = self.ln_pre(torch.cat([first, tokens], dim=1) + self.positional_embedding).permute(1, 0, 2)
        for block in self.transformer.resblocks:
            tokens = block(tokens)
        return self.ln_post(tokens[0]) @ self.proj


def text_of_openai(width):
    """Some tensors of the text encoder, whose names begin without a prefix."""
    return {"positional_embedding": torch.ones(8, width), "text_projection": torch.ones(width, 24),
            "logit_scale": torch.tensor(4.6), "token_embedding.weight": torch.ones(50, width),
            "transformer.resblocks.0.ln_1.weight": torch.ones(width), "ln_final.bias": torch.ones(width),
            "transformer.resblocks.0.attn.in_proj_weight": torch.ones(3 * width, width)}  # fmt: skip


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_monet_in_the_names_of_openai(kind, tmp_path):
    theirs = drawn(OpenAIsVisual(28, 14, 64, 2, 2, 24).to(kind).float())
    theirs.load_state_dict({name: tensor.to(kind).float() for name, tensor in theirs.state_dict().items()})
    state = {f"visual.{name}": tensor.to(kind) for name, tensor in theirs.state_dict().items()}
    torch.save({**state, **text_of_openai(32)}, tmp_path / "weight_clip.pt")
    ours = loaded(
        of_timm("vit_large_patch14_clip_quickgelu_224", img_size=28, num_classes=24), tmp_path / "weight_clip.pt"
    )
    with torch.inference_mode():
        expected = theirs(images(28))
        assert_same(ours(images(28)), expected)
        plain = loaded(of_timm("vit_large_patch14_clip_224", img_size=28, num_classes=24), tmp_path / "weight_clip.pt")
        assert not torch.allclose(plain(images(28)), expected, atol=2e-4, rtol=2e-3), "the activation matters"


@WAYS
def test_monet_in_the_names_of_transformers(tmp_path, way):
    transformers = needs("transformers")
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.CLIPConfig(vision_config=small(image_size=28, patch_size=14), text_config=text)
    model = drawn(transformers.CLIPModel(config))
    assert model.config.vision_config.hidden_act == "quick_gelu", "as in the file of MONET"
    file = saved(model, tmp_path, way)
    ours = loaded(of_timm("vit_large_patch14_clip_quickgelu_224", img_size=28, num_classes=7), file)
    with torch.inference_mode():
        features = ours.forward_head(ours.forward_features(images(28)), pre_logits=True)
        assert_same(features, model.vision_model(images(28)).pooler_output)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_openclip_with_the_activation_of_openai(tmp_path, prefix):
    open_clip = needs("open_clip")
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    vision = {"width": 64, "layers": 2, "head_width": 32, "patch_size": 14, "image_size": 28}
    model = drawn(open_clip.CLIP(24, vision, text, quick_gelu=True))
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "clip.pt")
    network = of_timm("vit_large_patch14_clip_quickgelu_224", img_size=28, num_classes=24)
    ours = loaded(network, tmp_path / "clip.pt")
    with torch.inference_mode():
        assert_same(ours(images(28)), model.encode_image(images(28)))


def beside(kind, quick):
    """The file beside weights that says which activation they were trained with."""
    if kind == "open_clip":
        return "open_clip_config.json", {"model_cfg": {"embed_dim": 24, **({"quick_gelu": True} if quick else {})}}
    vision = {"hidden_act": "quick_gelu" if quick else "gelu"}
    if kind == "default":
        vision = {}
    return "config.json", {"model_type": "clip", "vision_config": vision}


@pytest.mark.parametrize(
    ("kind", "quick"),
    [("open_clip", True), ("open_clip", False), ("clip", True), ("clip", False), ("default", True)],
)
def test_another_activation_than_that_of_the_weights_is_warned_of(kind, quick, tmp_path, caplog):
    theirs = drawn(OpenAIsVisual(28, 14, 64, 2, 2, 24))
    torch.save({f"visual.{name}": tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "clip.pt")
    name, content = beside(kind, quick)
    (tmp_path / name).write_text(json.dumps(content))

    def assembled(activation):
        network = of_timm("vit_large_patch14_clip_224", img_size=28, act_layer=activation)
        renamed = Network(network, head="head", renamed=lambda state: renamed_by_timm(state, network))
        assemble(renamed, SharedOptions(weights=str(tmp_path / "clip.pt")), InputsAndOutputs(7, 28))

    activations = ("quick_gelu", "gelu") if quick else ("gelu", "quick_gelu")
    assembled(activations[0])
    assert "activation" not in caplog.text
    assembled(activations[1])
    assert f"trained with the activation {activations[0]}" in caplog.text
    assert f"the network has {activations[1]}" in caplog.text
    assert f"backbone.name=vit_large_patch14_clip_{'quickgelu_' if quick else ''}224" in caplog.text


def resnet():
    return drawn(torchvision.models.resnet18())


def named(state, start):
    return {f"{start}{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}


def noise(state):
    return {name: tensor + 1 for name, tensor in state.items()}


HEAD = {"0.weight": torch.ones(3, 3), "0.bias": torch.ones(3)}
SELF_SUPERVISED = {
    "MoCo": lambda state: {
        "state_dict": {
            **named(noise(state), "module.encoder_k."), "module.queue": torch.ones(2, 2),
            "module.queue_ptr": torch.ones(1), **named(state, "module.encoder_q."),
            **named(HEAD, "module.encoder_q.fc."),
        },
        "arch": "resnet18",
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(1)}}, "param_groups": []},
    },
    "MoCo v3": lambda state: {
        "state_dict": {
            **named(noise(state), "module.momentum_encoder."), **named(state, "module.base_encoder."),
            **named(HEAD, "module.predictor."),
        }
    },
    "DINO": lambda state: {
        "student": {**named(noise(state), "module.backbone."), **named(HEAD, "module.head.mlp.")},
        "teacher": {**named(state, "backbone."), **named(HEAD, "head.mlp.")},
        "dino_loss": {"center": torch.ones(1)},
        "args": Namespace(arch="resnet18", lr=0.1),
        "epoch": 3,
    },
    "SimCLR by lightly": lambda state: {
        "state_dict": {**in_sequence(state, "backbone."), **named(HEAD, "projection_head.layers.")},
        "hyper_parameters": {}, "pytorch-lightning_version": "2.6.0",
    },
    "SimCLR": lambda state: {"state_dict": {**named(state, "backbone."), **named(HEAD, "backbone.fc.")}, "arch": "x"},
    "BYOL": lambda state: {
        **named(noise(state), "target_encoder.net."), **named(state, "online_encoder.net."), **named(state, "net."),
        **named(HEAD, "online_predictor.net."), **named(HEAD, "online_encoder.projector.net."),
    },
    "BYOL by lightly": lambda state: {
        "state_dict": {
            **named(noise(state), "backbone_momentum."), **named(state, "backbone."), **named(HEAD, "prediction_head."),
        }
    },
    "Lightning": lambda state: {"state_dict": {**named(state, "model."), "criterion.weight": torch.ones(7)}},
    "compiled": lambda state: {"state_dict": named(state, "net._orig_mod.module.")},
}  # fmt: skip


def in_sequence(state, prefix):
    places = {"conv1": "0", "bn1": "1", **{f"layer{number}": str(number + 3) for number in (1, 2, 3, 4)}}
    parts = [(*name.partition("."), tensor) for name, tensor in state.items() if not name.startswith("fc.")]
    return {f"{prefix}{places[first]}.{rest}": tensor for first, _, rest, tensor in parts}


@pytest.mark.parametrize("way", SELF_SUPERVISED)
def test_the_encoder_is_found_below_its_prefix(tmp_path, way, caplog):
    reference = resnet()
    torch.save(SELF_SUPERVISED[way](reference.state_dict()), tmp_path / "c.pth")
    caplog.set_level("INFO")
    ours = build("resnet18", weights=str(tmp_path / "c.pth")).eval()
    reference.fc = torch.nn.Identity()
    with torch.inference_mode():
        assert_same(ours.body(images(64)), reference(images(64)))
    assert "100 of 100 tensors of the network match" in caplog.text
    assert "the head (fc) is new, for the classes of this data set" in caplog.text


@pytest.mark.parametrize(("name", "side"), [("vit_tiny_patch16_224", 32), ("convnext_atto", 64)])
def test_a_network_of_timm_that_lightning_saved_is_found_with_its_head(tmp_path, name, side):
    size = {"img_size": side} if name.startswith("vit") else {}
    theirs = drawn(needs("timm").create_model(name, num_classes=7, **size))
    state = {f"backbone.{key}": tensor for key, tensor in theirs.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.0"}, tmp_path / "c.ckpt")
    ours = build("timm", side, name=name, weights=str(tmp_path / "c.ckpt")).eval()
    with torch.inference_mode():
        assert_same(ours(images(side)), theirs(images(side)))


def test_names_of_other_libraries_do_not_make_a_checkpoint_of_this_project():
    one = torch.ones(1)
    assert own_state({"backbone.body.conv1.weight": one, "backbone.head.fc.weight": one}) is None, "timm's TResNet"
    ours = {"body.network.conv1.weight": one, "head.weight": one}
    assert own_state({f"backbone.{name}": tensor for name, tensor in ours.items()}) == ours


def test_mae_has_an_encoder_and_a_decoder(tmp_path, caplog):
    timm = needs("timm")
    reference = drawn(timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0))
    decoder = {"mask_token": torch.ones(1, 1, 8), "decoder_pos_embed": torch.ones(1, 5, 8)}
    decoder |= {"decoder_blocks.0.attn.qkv.weight": torch.ones(24, 8), "decoder_pred.bias": torch.ones(3)}
    torch.save({"model": {**reference.state_dict(), **decoder}, "args": Namespace()}, tmp_path / "mae.pth")
    caplog.set_level("INFO")
    ours = build("timm", 32, name="vit_tiny_patch16_224", weights=str(tmp_path / "mae.pth")).eval()
    with torch.inference_mode():
        assert_same(ours.body(images(32)), reference(images(32)))
    assert "decoder_blocks.0" in caplog.text, "what is left is named"


def test_files_of_torchvision_and_timm_are_read_by_the_others_network(tmp_path):
    theirs, model = drawn(torchvisions_vit()), drawn(of_timm("vit_tiny_patch16_224", num_classes=7))
    torch.save(theirs.state_dict(), tmp_path / "tv.pth")
    save_file(model.state_dict(), str(tmp_path / "timm.safetensors"))
    with torch.inference_mode():
        expected = theirs(images(32)), model(images(32))
        assert not torch.allclose(*expected)
        assert_same(
            loaded(of_timm("vit_tiny_patch16_224", num_classes=7), tmp_path / "tv.pth")(images(32)), expected[0]
        )
        assert_same(loaded(torchvisions_vit(), tmp_path / "timm.safetensors")(images(32)), expected[1])


def test_a_file_of_another_library_becomes_a_backbone_with_its_head(tmp_path, caplog):
    transformers = needs("transformers")
    shape = small(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
    config = transformers.ViTConfig(**shape, layer_norm_eps=1e-6, num_labels=7)
    model = drawn(transformers.ViTForImageClassification(config))
    caplog.set_level("INFO")
    changed = {"name": "vit_tiny_patch16_224", "weights": saved(model, tmp_path, "hub")}
    needs("timm")
    ours = build("timm", 32, **changed).eval()
    with torch.inference_mode():
        assert_same(ours(images(32)), model(images(32)).logits)
    assert "150 of 150 tensors of the network match by name and shape below vit" in caplog.text
    assert "the head (head) is that of the file" in caplog.text


def test_a_part_is_taken_only_if_that_is_asked_for(tmp_path, caplog):
    state = {name: tensor for name, tensor in resnet().state_dict().items() if not name.startswith("layer4.1.")}
    state |= {"adapter.weight": torch.ones(2), "layer3.0.conv1.weight": torch.ones(3)}
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ConfigError, match=r"(?s)89 of 100 tensors .*weights_partial=true") as raised:
        build("resnet18", weights=str(tmp_path / "part.pth"))
    for name in ("layer4.1.bn1.bias: missing", "layer3.0.conv1.weight: (3,) in the file", "more"):
        assert name in str(raised.value)
    torch.manual_seed(3)
    ours = build("resnet18", weights=str(tmp_path / "part.pth"), weights_partial=True)
    assert torch.equal(ours.body.network.conv1.weight, state["conv1.weight"])
    assert "12 layers differ" in caplog.text
    assert "adapter.weight: not in the network" in caplog.text
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="0 of 100 tensors"):
        build("resnet18", weights=str(tmp_path / "none.pth"), weights_partial=True)


def test_a_layer_that_nobody_knows_is_an_error(tmp_path):
    torch.save({**resnet().state_dict(), "adapter.weight": torch.ones(2)}, tmp_path / "more.pth")
    with pytest.raises(ConfigError, match=r"(?s)100 of 100 .*adapter\.weight: not in the network"):
        build("resnet18", weights=str(tmp_path / "more.pth"))


def of_cae(network):
    """The weights of timm's transformer with layer scale as CAE names them, and PanDerm with it."""
    state = {}
    for name, tensor in network.state_dict().items():
        if name.endswith(".attn.qkv.bias"):
            query, _, value = tensor.chunk(3)
            layer = name.removesuffix(".qkv.bias")
            state |= {f"{layer}.q_bias": query, f"{layer}.v_bias": value}
        elif not name.startswith("head."):
            state[name.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2")] = tensor
    return state


@pytest.mark.parametrize("prefix", ["", "encoder."])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_panderm_is_read_by_a_plain_transformer(prefix, library, tmp_path):
    theirs = drawn(of_timm("vit_base_patch16_224", init_values=0.1, num_classes=0))
    for block in theirs.blocks:  # CAE's keys have no bias
        block.attn.qkv.bias.data[64:128] = 0
    state = {f"{prefix}{name}": tensor for name, tensor in of_cae(theirs).items()}
    beside = {"mask_token": torch.ones(1, 1, 64), "decoder.norm.weight": torch.ones(64)} if prefix else {}
    torch.save({"model": {**state, **beside}}, tmp_path / "panderm.pth")
    if library == "timm":
        ours = loaded(of_timm("vit_base_patch16_224"), str(tmp_path / "panderm.pth"))
        assert_same(ours.forward_head(ours.forward_features(images(32)), pre_logits=True), theirs(images(32)))
    else:
        plain = torchvision.models.VisionTransformer(32, 16, 2, 2, 64, 256)
        found = find_weights(read_state(tmp_path / "panderm.pth"), plain.state_dict(), lambda state: state)
        load_into(plain, found, "heads.head", "panderm.pth")
        plain.heads = torch.nn.Identity()
        assert_same(plain.eval()(images(32)), theirs(images(32)))


def text_of_pubmedbert():
    """Some tensors of the text encoder beside which DermFM-Zero has its encoder of images."""
    bert = "text.transformer"
    return {f"{bert}.embeddings.word_embeddings.weight": torch.ones(50, 32),
            f"{bert}.embeddings.position_embeddings.weight": torch.ones(8, 32),
            f"{bert}.embeddings.LayerNorm.weight": torch.ones(32),
            f"{bert}.encoder.layer.0.attention.self.query.weight": torch.ones(32, 32),
            f"{bert}.encoder.layer.0.output.dense.bias": torch.ones(32),
            "text.proj.0.weight": torch.ones(32, 32), "text.proj.2.weight": torch.ones(24, 32),
            "logit_scale": torch.tensor(4.6)}  # fmt: skip


def saved_as(kind, state, folder):
    """The file as OpenCLIP pushes it to the hub, or a checkpoint of its training."""
    if kind == "hub":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "open_clip_model.safetensors")
        return folder / "open_clip_model.safetensors"
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, folder / "e.pt"
    )
    return folder / "e.pt"


@pytest.mark.parametrize("kind", ["hub", "checkpoint"])
def test_dermfm_is_panderm_beside_a_text_encoder(kind, tmp_path, caplog):
    theirs = drawn(of_timm("vit_large_patch16_224", init_values=0.1, num_classes=24))
    for block in theirs.blocks:
        block.attn.qkv.bias.data[64:128] = 0
    head = {f"head.{name}": tensor for name, tensor in theirs.head.state_dict().items()}
    visual = {f"visual.{name}": tensor for name, tensor in {**of_cae(theirs), **head}.items()}
    file = saved_as(kind, {**visual, **text_of_pubmedbert()}, tmp_path)
    caplog.set_level("INFO")
    embedding = loaded(of_timm("vit_large_patch16_224", num_classes=24), file)
    ours = loaded(of_timm("vit_large_patch16_224", num_classes=7), file)
    with torch.inference_mode():
        assert_same(embedding(images(32)), theirs(images(32)))
        features = [each.forward_head(each.forward_features(images(32)), pre_logits=True) for each in (ours, theirs)]
        assert_same(*features)
    assert "below visual" in caplog.text
    assert "text.transformer (" in caplog.text, "what is left is named"


def test_a_network_with_scales_keeps_them(tmp_path):
    theirs = drawn(of_timm("vit_base_patch16_224", init_values=0.1))
    torch.save(theirs.state_dict(), tmp_path / "scaled.pth")
    ours = loaded(of_timm("vit_base_patch16_224", init_values=1.0), str(tmp_path / "scaled.pth"))
    assert torch.equal(ours.blocks[0].ls1.gamma, theirs.blocks[0].ls1.gamma)
    assert_same(ours(images(32)), theirs(images(32)))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_in_several_files_are_those_in_one(kind, tmp_path):
    theirs = drawn(torchvision.models.resnet18(num_classes=7))
    state = theirs.state_dict()
    names = [f"model-0000{number}-of-00002.{kind}" for number in (1, 2)]
    halves = [dict(list(state.items())[:60]), dict(list(state.items())[60:])]
    for name, half in zip(names, halves, strict=True):
        save_file(half, tmp_path / name) if kind == "safetensors" else torch.save(half, tmp_path / name)
    where = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index = tmp_path / f"model.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    ours = build("resnet18", weights=str(index)).eval()
    assert_same(ours(images(64)), theirs(images(64)))
    before = file_digests({"backbone": {"weights": str(index)}})["backbone.weights"]
    half = {**halves[1], "fc.bias": halves[1]["fc.bias"] + 1}
    save_file(half, tmp_path / names[1]) if kind == "safetensors" else torch.save(half, tmp_path / names[1])
    assert file_digests({"backbone": {"weights": str(index)}})["backbone.weights"] != before
    (tmp_path / names[0]).unlink()
    with pytest.raises(ConfigError, match=rf"1 are not there: {names[0]}; fetch"):
        read_state(index)


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": {"a": "../other.safetensors"}}', '{"weight_map": {}}'])
def test_an_index_that_names_no_files_beside_it_is_refused(text, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ConfigError, match="weight_map"):
        read_state(tmp_path / "model.safetensors.index.json")

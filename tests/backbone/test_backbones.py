import inspect
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torchvision
from omegaconf import OmegaConf

from lesion_exp.backbone import torchvision as ours
from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.network import Network
from lesion_exp.backbone.options import InputsAndOutputs, SharedOptions
from lesion_exp.backbone.surgery import widen_input
from lesion_exp.backbone.weights import FOLDER_VARIABLE
from lesion_exp.errors import ConfigError
from lesion_exp.model.network import make_backbone
from lesion_exp.task import parameter_groups

CONF = Path(__file__).parents[2] / "conf" / "backbone"
FILES = sorted(file for file in CONF.glob("*.yaml") if file.stem not in {"base", "timm"})
TOKENS = {"vit_b_16", "swin_t", "maxvit_t"}


def node(option, **changes):
    merged = OmegaConf.merge(OmegaConf.load(CONF / "base.yaml"), OmegaConf.load(CONF / f"{option}.yaml"), changes)
    config = OmegaConf.to_container(merged)
    config.pop("defaults")
    return config


def build(option, image_size=64, num_classes=7, in_channels=3, metadata_width=0, two_views=False, **changes):
    shape = InputsAndOutputs(num_classes, image_size, in_channels, metadata_width, two_views)
    return make_backbone(node(option, **changes), shape)


def test_the_base_has_the_shared_keys_with_their_defaults():
    assert OmegaConf.to_container(OmegaConf.load(CONF / "base.yaml")) == asdict(SharedOptions())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_shipped_backbone_trains(file):
    size = 224 if file.stem == "maxvit_t" else 64
    changes = {"name": "regnet_y_400mf"} if file.stem == "torchvision" else {}
    backbone = build(file.stem, size, **changes)
    logits = backbone(torch.randn(2, 3, size, size))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert backbone.is_convolutional == (file.stem not in TOKENS)
    grouped = [id(p) for group in backbone.layer_groups() for p in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in backbone.parameters()}
    assert len(backbone.layer_groups()) > 3, (
        "groups of layers are the children of the network and its head; only a child with a name of `_STACKS` "
        "(backbone/network.py), such as features, is replaced by its own children"
    )
    assert backbone.cam_layer() is not None


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_large", "efficientnet_b0", "swin_t"])
def test_parameters_are_torchvisions_own(name):
    reference = torchvision.models.get_model(name)
    mine = build(name, num_classes=1000)
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in reference.parameters())


def test_deep_cnn_has_27_million_parameters():
    count = sum(p.numel() for p in build("deep_cnn", 224).parameters())
    assert count == 27_031_719  # 25.7 million of them in the first dense layer


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "small_cnn", "vit_b_16"])
def test_a_fourth_channel_and_metadata_and_a_second_view(name):
    for metadata in ("concat", "metablock"):
        backbone = build(name, in_channels=4, metadata_width=9, two_views=False, metadata=metadata)
        assert backbone(torch.randn(2, 4, 64, 64), None, torch.randn(2, 9)).shape == (2, 7)
    for share in (False, True):
        backbone = build(name, two_views=True, share_branches=share)
        assert backbone(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)).shape == (2, 7)
        grouped = [id(p) for group in backbone.layer_groups() for p in group]
        assert sorted(grouped) == sorted(id(p) for p in backbone.parameters())


@pytest.mark.parametrize("kind", ["se", "cbam"])
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "densenet121", "mobilenet_v3_large", "small_cnn"])
def test_attention_adds_parameters_that_train(name, kind):
    plain, attentive = build(name), build(name, attention=kind)
    assert sum(p.numel() for p in attentive.parameters()) > sum(p.numel() for p in plain.parameters())
    attentive(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in attentive.parameters())


def test_freezing_keeps_weights_and_statistics():
    backbone = build("resnet18", freeze_epochs=1)
    backbone.freeze_body()
    before = {k: v.clone() for k, v in backbone.body.state_dict().items()}
    backbone.train()(torch.randn(4, 3, 64, 64)).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in backbone.body.state_dict().items())
    assert all(p.grad is None for p in backbone.body.parameters())
    assert backbone.head.weight.grad is not None
    backbone.unfreeze_body()
    assert all(p.requires_grad for p in backbone.parameters())
    assert backbone.body.training


def test_a_file_in_torchvisions_format_is_loaded_except_for_the_head(tmp_path):
    reference = torchvision.models.resnet18()
    torch.save(reference.state_dict(), tmp_path / "r.pth")
    backbone = build("resnet18", weights=str(tmp_path / "r.pth"))
    assert torch.equal(backbone.body.network.layer1[0].conv1.weight, reference.layer1[0].conv1.weight)
    same = build("resnet18", weights=str(tmp_path / "r.pth"), num_classes=1000).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(same(images), reference.eval()(images), atol=1e-5)


def test_imagenet_weights_are_taken_from_the_users_folder(tmp_path, monkeypatch):
    reference = torchvision.models.resnet18()
    name = torchvision.models.get_model_weights("resnet18").DEFAULT.url.rpartition("/")[2]
    torch.save(reference.state_dict(), tmp_path / name)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    backbone = build("resnet18", weights="imagenet", in_channels=4)
    widened = backbone.body.network.conv1.weight
    assert torch.equal(widened[:, :3], reference.conv1.weight)
    assert torch.allclose(widened[:, 3], reference.conv1.weight.mean(1))


def first_convolution(network):
    return next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))


def masked(images):
    """The images with an empty mask."""
    return torch.cat([images, torch.zeros_like(images[:, :1])], dim=1)


def with_weights_of(wide, plain):
    """The network without a fourth channel, with the weights of the one with it."""
    state = wide.state_dict()
    (first,) = [name for name, tensor in plain.state_dict().items() if state[name].shape != tensor.shape]
    plain.load_state_dict({**state, first: state[first][:, :3]})
    return plain.eval()


@pytest.mark.parametrize(
    ("option", "name"),
    [("resnet18", "resnet18"), ("timm", "tf_efficientnet_lite0"), ("timm", "tf_mobilenetv3_small_100")],
)
def test_an_empty_mask_changes_no_feature_whatever_the_first_convolution_is(option, name):
    if option == "timm":
        pytest.importorskip("timm")
    wide = build(option, 65, in_channels=4, name=name).eval()
    plain = with_weights_of(wide, build(option, 65, name=name))
    assert type(first_convolution(wide)) is type(first_convolution(plain))
    images = torch.randn(2, 3, 65, 65)
    with torch.inference_mode():
        torch.testing.assert_close(wide(masked(images)), plain(images))


def test_a_first_convolution_that_standardises_its_weights_still_does_so_with_a_mask():
    """The weights of the fourth channel take part in it, so that filters become longer by at most the root of 4/3."""
    pytest.importorskip("timm")
    wide = build("timm", in_channels=4, name="test_nfnet").eval()
    conv, of_three = first_convolution(wide), first_convolution(build("timm", name="test_nfnet"))
    assert type(conv) is type(of_three)
    state = {**conv.state_dict(), "weight": conv.weight[:, :3]}
    of_three.load_state_dict(state)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        shown, expected = (layer(given) - layer.bias.view(-1, 1, 1) for layer, given in (
            (conv, masked(images)), (of_three, images)))  # fmt: skip
        ratio = (shown.square().sum((0, 2, 3)) / expected.square().sum((0, 2, 3))).sqrt()
        torch.testing.assert_close(shown, expected * ratio.view(-1, 1, 1), atol=1e-4, rtol=1e-3)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= (4 / 3) ** 0.5 + 1e-4


def test_a_mask_draws_as_many_random_numbers_as_a_new_layer_so_that_older_runs_begin_alike():
    torch.manual_seed(0)
    before = torchvision.models.resnet18().conv1.weight.detach().clone()
    torch.nn.Conv2d(4, 64, 7, bias=False)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    layer = network.conv1
    widen_input(network, 4)
    assert torch.equal(torch.rand(3), drawn)
    assert network.conv1 is layer
    assert torch.equal(layer.weight, torch.cat([before, before.mean(dim=1, keepdim=True)], dim=1))
    assert layer(torch.zeros(1, 4, 64, 64)).shape == (1, 64, 32, 32)


def test_a_clinical_photograph_beside_an_image_with_a_mask_has_three_channels():
    torch.manual_seed(0)
    backbone = build("resnet18", in_channels=4, two_views=True)
    assert backbone(torch.randn(2, 4, 64, 64), torch.randn(2, 3, 64, 64)).shape == (2, 7)
    own, clinical = (first_convolution(body).weight for body in (backbone.body, backbone.clinical_body))
    assert torch.equal(own[:, :3], clinical), "both begin with the weights of the network"


def test_imagenet_weights_offline_say_which_file_goes_where(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("network is unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(ConfigError, match=r"download https://\S+/resnet18-\w+\.pth on a machine") as raised:
        build("resnet18", weights="imagenet")
    assert str(tmp_path / "checkpoints") in str(raised.value)


def test_a_checkpoint_of_this_project_is_loaded(tmp_path):
    trained = build("resnet18", attention="se")
    state = {f"backbone.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "best.ckpt")
    again = build("resnet18", attention="se", weights=str(tmp_path / "best.ckpt"))
    restored = again.state_dict()
    assert all(torch.equal(value, restored[key]) for key, value in trained.state_dict().items())


def test_vit_positions_are_interpolated(tmp_path):
    reference = torchvision.models.vit_b_32(image_size=64)
    torch.save(reference.state_dict(), tmp_path / "v.pth")
    backbone = build("torchvision", 96, name="vit_b_32", weights=str(tmp_path / "v.pth"))
    assert backbone(torch.randn(1, 3, 96, 96)).shape == (1, 7)


def test_weights_of_another_network_list_the_layers(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "r.pth")
    with pytest.raises(ConfigError, match="layers differ") as raised:
        build("resnet18", weights=str(tmp_path / "r.pth"))
    assert "layer1.2" in str(raised.value)


def test_a_pickle_is_not_executed(tmp_path):
    torch.save({"state_dict": inspect.signature}, tmp_path / "evil.pth")
    with pytest.raises(ConfigError, match="expected a file of tensors at"):
        build("resnet18", weights=str(tmp_path / "evil.pth"))


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("torchvision", {"name": "resnet19"}, "resnet18"),
        ("resnet18", {"attention": "cbm"}, "cbam"),
        ("vit_b_16", {"attention": "se"}, "convolutional"),
        ("resnet18", {"metadata": "metablok"}, "metablock"),
        ("resnet18", {"weights": "imagnet"}, "there is no file at imagnet"),
        ("small_cnn", {"weights": "imagenet"}, "without ImageNet weights"),
        ("resnet18", {"dropout": 1.0}, "dropout"),
        ("resnet18", {"layer_decay": 0.0}, "layer_decay"),
        ("vit_b_16", {"image_size": 100}, "96 or 112"),
        ("swin_t", {"image_size": 130}, "multiple of 4 for swin_t, got 130; use 128 or 132"),
        ("torchvision", {"name": "swin_v2_t", "image_size": 66}, "use 64 or 68"),
        ("maxvit_t", {"image_size": 96}, "multiple of 224"),
        ("resnet18", {"image_size": 16}, "at least 32"),
    ],
)
def test_wrong_values_are_refused_with_a_remedy(name, changes, says):
    size = changes.pop("image_size", 64)
    with pytest.raises(ConfigError, match=says):
        build(name, 224 if name == "maxvit_t" and size == 64 else size, **changes)


def test_timm_is_asked_for_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="pip install"):
        build("timm", name="resnet18")


def test_a_network_of_timm_trains():
    pytest.importorskip("timm")
    backbone = build("timm", name="convnextv2_atto")
    assert backbone(torch.randn(2, 3, 64, 64)).shape == (2, 7)


def test_position_embeddings_of_timm_are_resized(tmp_path):
    name, side = "vit_tiny_patch16_224", 96
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    reference = timm.create_model(name, img_size=2 * side).eval()
    torch.save(reference.state_dict(), tmp_path / "v.pth")
    backbone = build("timm", side, name=name, weights=str(tmp_path / "v.pth"), num_classes=1000).eval()
    reference.set_input_size(img_size=(side, side))
    images = torch.randn(1, 3, side, side)
    torch.testing.assert_close(backbone(images), reference(images), atol=1e-4, rtol=1e-4)
    same = build("timm", 2 * side, name=name, weights=str(tmp_path / "v.pth"))
    assert torch.equal(same.body.network.pos_embed, timm_position(tmp_path / "v.pth"))


def timm_position(file):
    return torch.load(file, weights_only=True)["pos_embed"]


@pytest.mark.parametrize(
    ("name", "size", "patch", "says"),
    [("vit_tiny_patch16_224", 100, 16, "96 or 112"), ("vit_small_patch14_dinov2", 60, 14, "56 or 70"),
     ("vit_tiny_patch16_224", 8, 16, "16 or 32"), ("swinv2_cr_tiny_ns_224", 130, 4, "128 or 132")],
)  # fmt: skip
def test_sizes_that_the_patches_of_timm_do_not_divide_are_refused(name, size, patch, says):
    pytest.importorskip("timm", reason="the extra timm is not installed")
    with pytest.raises(ConfigError, match=f"multiple of {patch} for {name}.*{says}"):
        build("timm", size, name=name)


def test_a_set_of_weights_of_timm_is_chosen_by_its_full_name():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    assert build("timm", name="resnet18.a1_in1k")(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(ConfigError, match="a1_in1k"):
        build("timm", name="resnet18.a1_in1")
    with pytest.raises(ConfigError, match="got 'tf_efficientnet_b0_ns'; did you mean"):  # a name that timm replaced
        build("timm", name="tf_efficientnet_b0_ns")


def test_every_name_of_torchvision_is_known():
    for name in ("resnet18", "vit_l_32", "regnet_x_16gf", "shufflenet_v2_x0_5"):
        ours._check_name(name)


class Plain(torch.nn.Module):
    """A network as anybody writes it."""

    def __init__(self):
        super().__init__()
        self.maps = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU())
        self.classify = torch.nn.Linear(8, 10)

    def forward(self, images):
        return self.classify(self.maps(images).mean((2, 3)))


class FeaturesOnly(Plain):
    """A network without a head: its features are what it gives."""

    def __init__(self):
        super().__init__()
        self.classify = torch.nn.Identity()


class EndsElsewhere(Plain):
    """A network whose last linear layer is not its end."""

    def forward(self, images):
        return super().forward(images).softmax(1).cumsum(1)[:, :4].repeat(1, 3)


@pytest.mark.parametrize("made", [Plain, FeaturesOnly, lambda: Network(Plain(), head="classify", cam_path="maps")])
def test_a_plain_module_is_a_backbone(made):
    shared = SharedOptions(attention="se", metadata="concat", dropout=0.1, freeze_epochs=1)
    backbone = assemble(made(), shared, InputsAndOutputs(7, 32, 4, 5))
    logits = backbone(torch.randn(2, 4, 32, 32), None, torch.randn(2, 5))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert backbone.body.num_features == 8
    assert backbone.is_convolutional
    assert isinstance(backbone.cam_layer(), torch.nn.Sequential), "the maps, then attention"


def test_what_is_no_network_is_refused():
    with pytest.raises(ConfigError, match="Module or a"):
        assemble(7, SharedOptions(), InputsAndOutputs(7, 32))
    with pytest.raises(ConfigError, match="head="):
        assemble(EndsElsewhere(), SharedOptions(), InputsAndOutputs(7, 32))


def test_logits_are_float32_under_autocast_and_have_no_ties_of_bf16():
    backbone = build("small_cnn").eval()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20_000, backbone.head.in_features, generator=generator).bfloat16()
    coarse = torch.nn.functional.linear(features, backbone.head.weight.bfloat16(), backbone.head.bias.bfloat16())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = backbone.head(features)
        whole = backbone(torch.randn(2, 3, 64, 64, generator=generator))
    assert num_ties(coarse) > 20, "else this tests nothing"
    assert num_ties(logits) == 0
    assert logits.dtype == whole.dtype == torch.float32
    torch.testing.assert_close(logits, backbone.head(features.float()), rtol=0, atol=0)


def num_ties(logits):
    """The rows whose two largest values are equal."""
    top = logits.topk(2, dim=1).values
    return int((top[:, 0] == top[:, 1]).sum())


def tuned_names(backbone):
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def test_tune_head_trains_the_head_and_keeps_the_body_in_evaluation_mode():
    backbone = build("resnet18", tune="head").train()
    assert tuned_names(backbone) == {"head.weight", "head.bias"}
    assert not any(module.training for module in backbone.body.modules())
    assert backbone.head.training
    assert {id(p) for p in backbone.tuned_parameters()} == {id(p) for p in backbone.head.parameters()}


@pytest.mark.parametrize(
    ("option", "tune", "expected"),
    [("resnet18", "last:2", ["layer3", "layer4"]), ("vit_tiny_patch16_224", "last:2", ["blocks.11", "norm"]),
     ("tf_efficientnet_lite0", "last:4", ["blocks.5", "blocks.6", "conv_head", "bn2"]), ("resnet18", "head", [])],
)  # fmt: skip
def test_the_groups_that_tune_last_trains_have_names(option, tune, expected):
    changes = {} if option == "resnet18" else {"name": option}
    if changes:
        pytest.importorskip("timm", reason="the extra timm is not installed")
    backbone = build("timm" if changes else option, 32, tune=tune, **changes)
    assert backbone.tuned_layers() == expected
    trained = {name for name in tuned_names(backbone) if name.startswith("body.")}
    assert all(name.removeprefix("body.network.").startswith(tuple(expected)) for name in trained)
    assert bool(trained) == bool(expected)


def test_tune_last_trains_the_last_groups_alone():
    backbone = build("resnet18", tune="last:1").train()
    body = backbone.body.network
    assert {name.split(".")[2] for name in tuned_names(backbone) if name.startswith("body")} == {"layer4"}
    assert all(module.training for module in body.layer4.modules())
    assert not any(module.training for module in body.layer3.modules())
    before = {name: value.clone() for name, value in body.layer3.state_dict().items()}
    backbone(torch.randn(4, 3, 64, 64)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in body.layer3.state_dict().items())
    assert len(build("resnet18", tune="last:2").tuned_parameters()) > len(backbone.tuned_parameters())


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "convnext_tiny", "vit_b_16", "small_cnn"])
def test_tune_last_takes_no_gradient_through_frozen_layers_and_leaves_their_statistics(name):
    backbone = build(name, tune="last:1").train()
    passed, frozen = [], {}
    for path, module in backbone.body.named_modules():
        own = list(module.parameters())
        if own and not any(weights.requires_grad for weights in own):
            frozen[path] = {key: value.clone() for key, value in module.state_dict().items()}
            module.register_forward_hook(
                lambda _, __, output, path=path: passed.append(path) if is_differentiable(output) else None
            )
    assert frozen
    assert len(tuned_names(backbone)) > len(list(backbone.head.parameters()))
    backbone(torch.randn(4, 3, 64, 64)).sum().backward()
    assert passed == [], "autograd goes through these layers, though nothing in front of them is trained"
    for path, state in frozen.items():
        module = backbone.body.get_submodule(path)
        assert all(weights.grad is None for weights in module.parameters())
        assert not any(one.training for one in module.modules())
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def is_differentiable(output):
    return any(one.requires_grad for one in (output if isinstance(output, tuple) else (output,)) if one is not None)


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_tune_norms_trains_normalisation_layers_and_the_head(name):
    backbone = build(name, tune="norms").train()
    trained = [
        type(backbone.get_submodule(found.rpartition(".")[0])).__name__
        for found in tuned_names(backbone)
        if found.startswith("body")
    ]
    assert trained
    assert all("Norm" in found for found in trained)
    assert {"head.weight", "head.bias"} < tuned_names(backbone)


def test_freeze_epochs_come_before_what_tune_says():
    backbone = build("resnet18", tune="last:1", freeze_epochs=1)
    backbone.freeze_body()
    assert tuned_names(backbone) == {"head.weight", "head.bias"}
    backbone.unfreeze_body()
    assert tuned_names(backbone) == tuned_names(build("resnet18", tune="last:1"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tune": "heads"}, r"backbone\.tune.*full, head, norms, lora, last:N.*did you mean 'head'"),
        ({"tune": "last:0"}, r"backbone\.tune.*full, head, norms, lora, last:N"),
        ({"tune": "last:N"}, r"last:2"),
        ({"tune": "last:99"}, r"N up to \d"),
        ({"tune": "head", "freeze_epochs": 1}, r"freeze_epochs=0"),
    ],
)
def test_what_cannot_be_tuned_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        build("resnet18", **options)


def test_the_optimizer_gets_only_what_is_tuned():
    for tune in ("full", "head", "last:1", "norms"):
        backbone = build("resnet18", tune=tune)
        groups = parameter_groups(backbone, decay_norms_and_biases=False)
        given = {id(parameter) for group in groups for parameter in group["params"]}
        assert given == {id(p) for p in backbone.parameters() if p.requires_grad}

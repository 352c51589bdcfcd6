"""A network starts from a file of this project whose run had another size, mask, attention, view or metadata."""

import re
import shlex

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.network import Network
from lesion_exp.backbone.options import InputsAndOutputs, SharedOptions
from lesion_exp.backbone.own_weights import _trained_for_others
from lesion_exp.backbone.timm import _renamed as renamed_by_timm
from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError
from lesion_exp.model.network import make_backbone
from tests.backbone.test_backbones import build, masked, node

SIDE = 32
RUNS_HEAD = "layers after the body: of the file: head; new: none; in the file and not used: none"


def drawn(backbone):
    """The backbone with weights of which none is what it starts with, in evaluation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in backbone.state_dict().items():
            if tensor.is_floating_point() and "running_var" not in name:
                tensor.copy_(tensor + 0.1 * torch.randn(tensor.shape, generator=generator))
    return backbone.eval()


def saved(backbone, tmp_path, *, without_head=False, **card):
    """A checkpoint as a run writes it; a pretraining has no head."""
    state = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not (without_head and name.startswith("backbone.head."))}
    torch.save({"state_dict": state, "lesion_exp": card}, tmp_path / "best.ckpt")
    return str(tmp_path / "best.ckpt")


def images(side=SIDE):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def assert_equal(ours, theirs):
    found, expected = ours.state_dict(), theirs.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.parametrize("fusion", ["concat", "metablock"])
def test_a_pretraining_starts_a_run_with_metadata(fusion, tmp_path, caplog):
    pretrained = drawn(build("small_cnn", SIDE))
    file = saved(pretrained, tmp_path, without_head=True)
    caplog.set_level("INFO")
    started = build("small_cnn", SIDE, metadata=fusion, metadata_width=9, weights=file).eval()
    assert_equal(started.body, pretrained.body)
    assert started(images(), None, torch.randn(2, 9)).shape == (2, 7)
    part = "embedding" if fusion == "concat" else "gate"
    assert f"of the file: none; new: {part}, head; in the file and not used: none" in caplog.text


@pytest.mark.parametrize("fusion", ["concat", "metablock"])
def test_a_run_with_metadata_starts_one_without(fusion, tmp_path, caplog):
    trained = drawn(build("small_cnn", SIDE, metadata=fusion, metadata_width=9))
    caplog.set_level("INFO")
    started = build("small_cnn", SIDE, weights=saved(trained, tmp_path))
    assert_equal(started.body, trained.body)
    count = len((trained.embedding or trained.gate).state_dict())
    part = "embedding" if fusion == "concat" else "gate"
    assert f"new: head; in the file and not used: {part} ({count}), head (2)" in caplog.text
    assert not torch.equal(started.head.weight, trained.head.weight[:, : started.head.in_features])


def test_layers_of_metadata_are_those_of_the_file_only_for_the_same_columns(tmp_path, caplog):
    def of(sites, classes=("mel", "nv")):
        metadata = {"sexes": ["female", "male"], "sites": sites}
        shape = InputsAndOutputs(2, SIDE, metadata_width=8, classes=classes, metadata=metadata)
        return shape, {"classes": list(classes), "metadata": metadata}

    shape, card = of(["arm", "leg"])
    trained = drawn(make_backbone(node("small_cnn", metadata="concat"), shape))
    changes = {"metadata": "concat", "weights": saved(trained, tmp_path, **card)}
    assert_equal(make_backbone(node("small_cnn", **changes), shape), trained)
    caplog.set_level("INFO")
    elsewhere = make_backbone(node("small_cnn", **changes), of(["face", "neck"])[0])
    assert_equal(elsewhere.body, trained.body)
    assert not torch.equal(elsewhere.embedding.layers[0].weight, trained.embedding.layers[0].weight)
    assert "embedding (14; its sexes and sites are not those of this run), head (2)" in caplog.text
    others = make_backbone(node("small_cnn", **changes), of(["arm", "leg"], ("bcc", "nv"))[0])
    assert_equal(others.embedding, trained.embedding)
    assert not torch.equal(others.head.weight, trained.head.weight)
    assert "head (2; its classes are mel, nv and those of this run are bcc, nv)" in caplog.text


def vit(side, **changes):
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    network = timm.create_model("vit_tiny_patch16_224", depth=2, embed_dim=64, num_heads=2, img_size=side)
    known = Network(network, head="head", renamed=lambda state: renamed_by_timm(state, network))
    return assemble(known, SharedOptions(**changes), InputsAndOutputs(7, side, two_views="share_branches" in changes))


def test_positions_of_a_run_at_another_size_are_resized_as_timm_does(tmp_path, caplog):
    small = drawn(vit(32))
    caplog.set_level("INFO")
    large = vit(64, weights=saved(small, tmp_path)).eval()
    from timm.layers import resample_abs_pos_embed

    expected = resample_abs_pos_embed(small.body.network.pos_embed.detach(), new_size=[4, 4])
    assert torch.equal(large.body.network.pos_embed, expected)
    assert_equal(large.body.network.blocks, small.body.network.blocks)
    assert_equal(large.head, small.head)
    assert RUNS_HEAD in caplog.text
    assert large(images(64)).shape == (2, 7)
    both = vit(64, weights=saved(small, tmp_path), share_branches=False)
    assert torch.equal(both.clinical_body.network.pos_embed, expected)


def test_positions_of_the_second_view_are_resized_too(tmp_path):
    small = drawn(vit(32, share_branches=False))
    large = vit(64, weights=saved(small, tmp_path), share_branches=False)
    from timm.layers import resample_abs_pos_embed

    for body, trained in ((large.body, small.body), (large.clinical_body, small.clinical_body)):
        expected = resample_abs_pos_embed(trained.network.pos_embed.detach(), new_size=[4, 4])
        assert torch.equal(body.network.pos_embed, expected)
    assert not torch.equal(large.body.network.pos_embed, large.clinical_body.network.pos_embed)
    assert_equal(large.head, small.head)


def test_a_mask_is_added_to_a_trained_network_and_taken_away_again(tmp_path):
    plain = drawn(build("small_cnn", SIDE))
    with_mask = build("small_cnn", SIDE, in_channels=4, weights=saved(plain, tmp_path)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(with_mask(masked(images())), plain(images()))
    trained = drawn(with_mask)
    file = saved(trained, tmp_path)
    assert_equal(build("small_cnn", SIDE, in_channels=4, weights=file), trained)
    without = build("small_cnn", SIDE, weights=file).eval()
    with torch.inference_mode():
        torch.testing.assert_close(without(images()), trained(masked(images())))


@pytest.mark.parametrize("name", ["resnet18", "small_cnn"])
def test_attention_is_added_to_trained_layers(name, tmp_path):
    plain = drawn(build(name))
    started = build(name, attention="se", in_channels=4, weights=saved(plain, tmp_path))
    expected = {tensor.sum().item() for tensor in plain.body.parameters() if tensor.shape[1:2] != (3,)}
    assert expected <= {tensor.sum().item() for tensor in started.body.parameters()}
    assert_equal(started.head, plain.head)


def test_attention_that_was_trained_is_kept_or_refused(tmp_path):
    trained = drawn(build("resnet18", attention="se"))
    file = saved(trained, tmp_path, config={"backbone": {"attention": "se", "name": "resnet18"}, "image_size": 64})
    started = build("resnet18", attention="se", metadata="concat", metadata_width=9, in_channels=4, weights=file)
    ours, theirs = (each.body.network.layer4[1][1].weigh[1].weight for each in (started, trained))
    assert torch.equal(ours, theirs)
    assert torch.equal(started.body.network.conv1.weight[:, :3], trained.body.network.conv1.weight)
    for other in ("none", "cbam"):
        with pytest.raises(ConfigError, match=rf"got {other}; set backbone\.attention=se"):
            build("resnet18", attention=other, weights=file)
    assert_equal(build("resnet18", attention="se", weights=file), trained)


@pytest.mark.parametrize("attention", ["none", "se"])
def test_both_views_start_from_a_run_of_one_and_each_from_its_own(attention, tmp_path, caplog):
    one = drawn(build("small_cnn", SIDE))
    two = drawn(build("small_cnn", SIDE, two_views=True, weights=saved(one, tmp_path)))
    start = build("small_cnn", SIDE, two_views=True, weights=saved(one, tmp_path))
    assert_equal(start.body, one.body)
    assert_equal(start.clinical_body, one.body)
    assert not torch.equal(first_weights(two.body), first_weights(two.clinical_body))
    again = build("small_cnn", SIDE, two_views=True, attention=attention, weights=saved(two, tmp_path))
    assert torch.equal(first_weights(again.body), first_weights(two.body))
    assert torch.equal(first_weights(again.clinical_body), first_weights(two.clinical_body))
    assert_equal(again.head, two.head)
    caplog.set_level("INFO")
    assert_equal(build("small_cnn", SIDE, weights=saved(two, tmp_path)).body, two.body)
    assert "new: head; in the file and not used: clinical_body, head (2)" in caplog.text


def first_weights(body):
    return next(body.parameters())


def test_a_body_of_another_shape_is_refused_with_the_overrides_of_its_run(tmp_path):
    config = {"backbone": node("small_cnn", width=16), "image_size": 48}
    file = saved(build("small_cnn", SIDE, width=16), tmp_path, config=config)
    with pytest.raises(ConfigError, match=r"made with \(backbone=small_cnn backbone\.width=16 image_size=48\)"):
        build("small_cnn", SIDE, weights=file)
    taken = build("small_cnn", SIDE, width=16, weights=file)
    assert taken(images()).shape == (2, 7)


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (node("small_cnn"), "backbone=small_cnn backbone.width=32 image_size=48"),
        (node("deep_cnn"), "backbone=deep_cnn image_size=48"),
        (node("resnet18"), "backbone=torchvision backbone.name=resnet18 image_size=48"),
        (node("efficientnet_lite0"), "backbone=timm backbone.name=tf_efficientnet_lite0 image_size=48"),
    ],
)
def test_the_overrides_of_the_run_of_a_file_choose_its_backbone(backbone, expected, tmp_path):
    file = saved(build("small_cnn", SIDE, width=16), tmp_path, config={"backbone": backbone, "image_size": 48})
    with pytest.raises(ConfigError, match=rf"the file was made with \({re.escape(expected)}\)"):
        build("resnet18", weights=file)
    composed = compose(["dataset=synthetic", *expected.split()], root=tmp_path).config["backbone"]
    assert {key: composed[key] for key in backbone} == backbone


def test_the_overrides_of_a_network_of_the_user_are_in_hydras_grammar(tmp_path):
    keys = {"depths": ["a", 2], "drop": None, "of": {"x": "", "z": "1"}, "flag": True, "word": "true"}
    backbone = {"_target_": "my_package.network", "weights": "none", **keys}
    file = saved(build("small_cnn", SIDE), tmp_path, config={"backbone": backbone})
    with pytest.raises(ConfigError, match=r"with \(your option with _target_ my_package\.network, (.*)\)") as caught:
        build("resnet18", weights=file)
    words = shlex.split(re.search(r"my_package\.network, (.*?)\)", str(caught.value))[1])
    parsed = OverridesParser.create().parse_overrides(words)
    assert {each.key_or_group.removeprefix("backbone."): each.value() for each in parsed} == keys


def test_another_network_is_named_before_its_attention(tmp_path):
    trained = build("resnet18", attention="se")
    file = saved(trained, tmp_path, config={"backbone": node("resnet18", attention="se"), "image_size": 64})
    made_with = r"backbone=torchvision backbone\.name=resnet18 backbone\.attention=se image_size=64"
    for other in ("vit_b_16", "small_cnn"):
        with pytest.raises(ConfigError, match=rf"the file was made with \({made_with}\)"):
            build(other, weights=file)


def test_layers_after_the_mean_of_patches_are_new_after_the_class_token(tmp_path):
    backbone = {"_target_": "lesion_exp.backbone.timm.timm_backbone", "name": "vit_small_patch16_dinov3"}
    for card, is_kept in (({"class_token": True}, True), ({}, False)):
        others = _trained_for_others({"config": {"backbone": backbone}, **card}, InputsAndOutputs(2, SIDE))
        assert others == ({} if is_kept else dict.fromkeys(
            ("gate", "head"), "an earlier version trained it with the mean over the patches"))  # fmt: skip

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lesion_exp.backbone.options import InputsAndOutputs
from lesion_exp.explanation.grad_cam import GradCam
from lesion_exp.explanation.grad_cam_plus_plus import GradCamPlusPlus
from lesion_exp.explanation.network import ExplainedNetwork
from lesion_exp.model.network import make_backbone

CONF = Path(__file__).parents[2] / "conf" / "backbone"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml") if file.stem not in {"base", "timm", "torchvision"})
TIMM = ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "efficientnet_lite0", "resnet10t",
        "mixer_s32_224", "vit_little_patch16_reg4_gap_256")  # fmt: skip


class OfImages(torch.nn.Module):
    """A backbone that takes a batch, as a classifier does."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, batch):
        return self.backbone(batch["image"], batch.get("clinical"))


def explained(option, image_size, companions=None, **changes):
    torch.manual_seed(0)
    base, own = OmegaConf.load(CONF / "base.yaml"), OmegaConf.load(CONF / f"{option}.yaml")
    node = OmegaConf.to_container(OmegaConf.merge(base, own, changes))
    node.pop("defaults")
    backbone = make_backbone(node, InputsAndOutputs(3, image_size, two_views=bool(companions)))
    return ExplainedNetwork(OfImages(backbone), backbone.body, companions)


def check_maps(network, size):
    images, targets = torch.randn(2, 3, size, size), torch.tensor([0, 2])
    maps, gradients, _ = network.last_maps(images, targets)
    assert maps.shape == gradients.shape
    assert maps.shape[:1] == (2,)
    assert maps.shape[1] > maps.shape[2] == maps.shape[3] > 1
    assert maps.std(dim=(2, 3)).amax(dim=1).min() > 0
    assert gradients.abs().amax(dim=(1, 2, 3)).min() > 0, "the class's logit depends on the maps"
    assert all(method(network, images, targets).shape == (2, size, size) for method in (GradCam(), GradCamPlusPlus()))
    return maps


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_backbone_has_maps_of_the_image(name):
    if "backbone.timm." in (CONF / f"{name}.yaml").read_text("utf-8"):
        pytest.importorskip("timm")
    size = 224 if name == "maxvit_t" else 64
    check_maps(explained(name, size), size)


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm_have_maps_of_the_image(name):
    pytest.importorskip("timm")
    check_maps(explained("timm", 64, name=name), 64)


def test_an_encoder_of_timm_without_a_head_gets_one():
    pytest.importorskip("timm")
    check_maps(explained("timm", 56, name="vit_small_patch14_reg4_dinov2"), 56)


def test_tokens_lie_where_their_patches_lie():
    network = explained("vit_b_16", 64).eval()
    plain, marked = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    marked[:, :, 16:32, 48:64] = 3.0  # the patch in row 1, column 3
    network.body.network.encoder.pos_embedding.data.zero_()
    network.body.cam_path = "encoder.layers.encoder_layer_0.ln_1"
    before, after = (network.last_maps(images, torch.tensor([0])).maps for images in (plain, marked))
    changed = (after - before).abs().sum(dim=1)[0]
    assert changed.nonzero().tolist() == [[1, 3]]


def test_a_body_that_two_views_share_shows_the_dermoscopic_image():
    clinical = torch.randn(2, 3, 64, 64)
    shared = explained("small_cnn", 64, {"clinical": clinical}, share_branches=True)
    images = torch.randn(2, 3, 64, 64)
    maps = shared.last_maps(images, torch.tensor([0, 1])).maps
    torch.testing.assert_close(maps, shared.body.network.features(images))

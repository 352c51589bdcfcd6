import json

import cv2
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from lesion_exp.augmentation.fit import fit_to_square
from lesion_exp.backbone import timm as ours_of_timm
from lesion_exp.backbone import torchvision as ours_of_torchvision
from lesion_exp.backbone.preprocessing import (
    CLIP_MEAN,
    IMAGENET,
    Preprocessing,
    said_beside,
    said_by_card,
    said_in_header,
)
from lesion_exp.backbone.torchvision import WITH_AUXILIARY, WITHOUT_LINEAR, torchvision_backbone
from lesion_exp.errors import ConfigError


def test_every_entry_of_torchvision_has_its_own():
    wrong, count = [], 0
    for name in torchvision.models.list_models(module=torchvision.models):
        if name.startswith(WITHOUT_LINEAR):
            continue
        for entry in torchvision.models.get_model_weights(name):
            shown, count = entry.transforms(), count + 1
            file = entry.url.rpartition("/")[2]
            expected = (shown.mean, shown.std) if name not in WITH_AUXILIARY else ([0.5] * 3, [0.5] * 3)
            for weights in (f"imagenet:{entry.name}", f"/folder/{file}"):
                found = ours_of_torchvision.weights_preprocessing({"name": name}, weights)
                same = (list(found.mean), list(found.std), found.interpolation, found.size)
                if same != (*map(list, expected), shown.interpolation.value, shown.crop_size[0]) or (
                    round(found.size / found.crop_share) != shown.resize_size[0]
                ):
                    wrong.append((name, entry.name, found))
    assert count >= 113
    assert wrong == []


def test_every_pretrained_entry_of_timm_has_its_own():
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    from timm.data import resolve_data_config

    wrong = []
    names = timm.list_models(pretrained=True)
    for name in names:
        expected = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        found = ours_of_timm.weights_preprocessing({"name": name}, "imagenet")
        made = (found.mean, found.std, found.interpolation, found.size, found.crop_share)
        size = min(expected["input_size"][1:])
        if made != (
            *(tuple(expected[key]) for key in ("mean", "std")), expected["interpolation"], size,
            min(round(expected["crop_pct"], 6), 1.0),
        ):  # fmt: skip
            wrong.append((name, found, expected))
    assert len(names) > 1500
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "weights", "mean", "assumed"),
    [
        ("vit_base_patch16_224", "/folder/mae_pretrain_vit_base.pth", IMAGENET.mean, None),
        ("vit_base_patch16_224", "/folder/dino_vitbase16_pretrain.pth", IMAGENET.mean, None),
        ("vit_base_patch16_224.mae", "/folder/mine.pth", IMAGENET.mean, None),
        ("vit_base_patch16_224", "/folder/mine.pth", (0.5,) * 3, "vit_base_patch16_224.augreg2_in21k_ft_in1k"),
        ("vit_base_patch16_224", "imagenet", (0.5,) * 3, None),
    ],
)
def test_a_file_that_was_published_under_its_name_has_the_preprocessing_of_timms_entry(name, weights, mean, assumed):
    pytest.importorskip("timm", reason="the extra timm is not installed")
    node = {"name": name}
    assert ours_of_timm.weights_preprocessing(node, weights).mean == mean
    assert ours_of_timm.assumed_entry(node, weights) == assumed


def test_a_file_that_was_published_under_its_name_has_the_licence_of_timms_entry():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    node = {"name": "vit_base_patch16_224"}
    assert ours_of_timm.weights_licence(node, "/folder/mae_pretrain_vit_base.pth") == "cc-by-nc-4.0"
    assert ours_of_timm.weights_licence(node, "/folder/mine.pth") is None


def test_the_entry_of_torchvision_is_assumed_for_files_with_names_of_their_own():
    node, entry = {"name": "vit_b_16"}, torchvision.models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1
    file = f"/folder/{entry.url.rpartition('/')[2]}"
    assert ours_of_torchvision.assumed_entry(node, file) is None
    assert ours_of_torchvision.weights_licence(node, file) == entry.meta["license"]
    assert ours_of_torchvision.assumed_entry(node, "/folder/mine.pth") == "ViT_B_16_Weights.IMAGENET1K_V1"
    assert ours_of_torchvision.weights_licence(node, "/folder/mine.pth") is None


@pytest.mark.parametrize("name", WITH_AUXILIARY)
def test_networks_that_torchvision_normalises_inside_get_what_their_first_layer_expects(name):
    reference = torchvision.models.get_model(name, weights=None, aux_logits=False, init_weights=False).eval()
    reference.transform_input = True  # as torchvision sets it with pretrained weights
    ours = torchvision_backbone(name, image_size=80).module.eval()
    ours.load_state_dict(reference.state_dict())
    images = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    known = ours_of_torchvision.weights_preprocessing({"name": name}, "imagenet")
    with torch.inference_mode():
        expected = reference(normalised(images, IMAGENET))
        torch.testing.assert_close(ours(normalised(images, known)), expected, atol=1e-5, rtol=1e-4)


def normalised(images, known):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (known.mean, known.std))
    return (images - mean) / std


@pytest.mark.parametrize("name", ["resnet50", "swin_t", "efficientnet_b0"])
def test_the_square_is_the_one_that_torchvision_shows(name):
    shown = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    known = ours_of_torchvision.weights_preprocessing({"name": name}, "imagenet")
    expected = np.asarray(torchvision.transforms.functional.center_crop(
        torchvision.transforms.functional.resize(picture(), shown.resize_size, shown.interpolation),
        shown.crop_size,
    ), dtype=float)  # fmt: skip
    assert_nearly_equal(known, expected)


def test_the_square_is_the_one_that_timm_shows():
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg("tf_efficientnet_lite2").to_dict())
    transform = create_transform(**{**config, "mean": (0, 0, 0), "std": (1, 1, 1)})
    known = ours_of_timm.weights_preprocessing({"name": "tf_efficientnet_lite2"}, "imagenet")
    assert known == Preprocessing((0.5,) * 3, (0.5,) * 3, "bicubic", 0.89, 260)
    assert_nearly_equal(known, 255 * transform(picture()).permute(1, 2, 0).numpy())


def picture():
    rough = np.random.default_rng(1).integers(0, 256, (450, 600, 3), dtype=np.uint8)
    return Image.fromarray(cv2.GaussianBlur(rough, (9, 9), 2))


def assert_nearly_equal(known, expected):
    made, _ = fit_to_square(
        np.asarray(picture()), None, known.size, "crop", (0, 0, 0), known.crop_share, known.interpolation
    )
    difference = np.abs(made - expected)
    assert difference.mean() < 3, "grey levels, of 255: the grids differ by a part of a pixel"
    other, _ = fit_to_square(np.asarray(picture()), None, known.size, "crop", (0, 0, 0))
    assert np.abs(other - expected).mean() > 3 * difference.mean(), "without the crop share it is another picture"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "preprocessor_config.json",
            {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 224, "width": 224},
             "resample": 2},
            Preprocessing((0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, 224),
        ),
        (
            "preprocessor_config.json",
            {"image_mean": list(IMAGENET.mean), "image_std": list(IMAGENET.std), "size": {"shortest_edge": 256},
             "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "resample": 3},
            Preprocessing(interpolation="bicubic", crop_share=0.875, size=224),
        ),
        (
            "preprocessor_config.json",
            {"image_mean": list(IMAGENET.mean), "image_std": list(IMAGENET.std), "size": 224, "crop_pct": 0.875,
             "resample": 3},
            Preprocessing(interpolation="bicubic", crop_share=0.875, size=224),
        ),
        (
            "preprocessor_config.json",
            {"image_mean": list(IMAGENET.mean), "image_std": list(IMAGENET.std), "size": {"shortest_edge": 384},
             "crop_pct": 0.875, "resample": 3},
            Preprocessing(interpolation="bicubic", crop_share=1.0, size=384),
        ),
        (
            "open_clip_config.json",
            {"model_cfg": {"vision_cfg": {"image_size": 336}}, "preprocess_cfg": {}},
            Preprocessing(CLIP_MEAN, (0.26862954, 0.26130258, 0.27577711), "bicubic", 1.0, 336),
        ),
        (
            "config.json",
            {"architecture": "x", "pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bicubic",
                                                     "crop_pct": 0.9, "input_size": [3, 192, 192]}},
            Preprocessing((0, 0, 0), (1, 1, 1), "bicubic", 0.9, 192),
        ),
        ("config.json", {"model_type": "vit"}, None),
        ("config.json", [], None),
    ],
)  # fmt: skip
def test_the_files_beside_weights_are_read(tmp_path, name, content, expected):
    (tmp_path / name).write_text(json.dumps(content))
    assert said_beside(tmp_path / "model.safetensors") == expected


def test_our_own_header_is_read(tmp_path):
    from safetensors.torch import save_file

    prepared = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "image_size": 96}
    card = {"preprocessing": {**prepared, "interpolation": "bicubic", "crop_share": 0.9}}
    weights = {"backbone.head.weight": torch.zeros(2, 2)}
    save_file(weights, str(tmp_path / "own.safetensors"), metadata={"lesion_exp": json.dumps(card)})
    save_file(weights, str(tmp_path / "other.safetensors"))
    expected = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 0.9, 96)
    assert said_in_header(tmp_path / "own.safetensors") == expected
    assert said_in_header(tmp_path / "other.safetensors") is None
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    assert said_in_header(tmp_path / "broken.safetensors") is None
    older = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 1.0, 96)
    assert said_by_card({"preprocessing": prepared}) == older, "a card of an older version"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mean": [0.5, 0.5]}, "three values from 0 to 1"),
        ({"mean": [123.0, 117.0, 104.0]}, "three values from 0 to 1"),
        ({"std": [0.2, 0.2, 0.0]}, "three values above 0"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"crop_share": 1.2}, "up to 1"),
        ({"size": 22.5}, "number of pixels"),
        ({"crop": 0.9}, "crop_share"),
    ],
)
def test_values_out_of_range_are_refused(values, says):
    with pytest.raises(ConfigError, match=says):
        IMAGENET.changed(values)

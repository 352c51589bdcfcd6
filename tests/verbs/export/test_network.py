import cv2
import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from lesion_exp.augmentation.fit import fit_to_square
from lesion_exp.image_file import fit
from lesion_exp.verbs.export.network import IMAGES, OUTPUT, Photograph
from lesion_exp.verbs.export.onnx_file import _graph, _quantised


@pytest.mark.parametrize(
    "size", [(450, 600), (600, 450), (90, 100), (40, 300), (80, 120), (160, 161), (32, 32), (24, 30)]
)
@pytest.mark.parametrize("way", ["crop", "squash"])
def test_it_is_what_opencv_makes_of_it(size, way):
    rough = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(rough, (5, 5), 1.5)
    expected, _ = fit_to_square(fit(image, 40), None, 32, way, (0, 0, 0))
    made = Photograph(40, 32, way)(torch.from_numpy(np.stack([image, image[::-1].copy()])))
    assert_equal_but_for_rounding(made, expected)


@pytest.mark.parametrize("size", [(450, 600), (90, 100), (40, 300), (32, 32), (24, 30)])
@pytest.mark.parametrize(("interpolation", "share"), [("bilinear", 0.875), ("bicubic", 0.875), ("lanczos", 1.0)])
def test_it_is_what_weights_were_trained_with(size, interpolation, share):
    rough = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(rough, (5, 5), 1.5)
    expected, _ = fit_to_square(fit(image, 40), None, 32, "crop", (0, 0, 0), share, interpolation)
    made = Photograph(40, 32, "crop", interpolation, share)(torch.from_numpy(np.stack([image, image[::-1].copy()])))
    assert_equal_but_for_rounding(made, expected)
    if min(size) <= 40 and interpolation != "bilinear":
        assert (made[0].permute(1, 2, 0).numpy() == expected).all(), "what is not averaged down is the same"


def assert_equal_but_for_rounding(made, expected):
    assert made.shape == (2, 3, 32, 32)
    difference = np.abs(made[0].permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02, "but for the rounding of a few"


def test_int8_divides_what_relu6_lets_through_and_not_all_that_it_cuts_off():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU6(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU6()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            layer.weight *= 30
        images = torch.randn(16, 3, 16, 16)
        assert layers[0](images).max() > 60, "else this tests nothing"
    graph = _graph(network, (images[:2],), [IMAGES], OUTPUT, ({0: torch.export.Dim("batch")},))
    graph = _quantised(graph, [{IMAGES: images.numpy()}]).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    steps = [
        float(values[node.input[1]])
        for node in graph.node
        if node.op_type == "QuantizeLinear" and made_by.get(node.input[0]) in ("Conv", "Clip")
    ]
    assert len(steps) >= 2
    assert max(steps) == pytest.approx(6 / 255, rel=0.01)

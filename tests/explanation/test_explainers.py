import sys

import pytest
import torch
from captum.attr import LayerGradCam

from lesion_exp.config.shipped_conf import conf_dir, option_names
from lesion_exp.errors import ConfigError
from lesion_exp.explanation.explainer import Explainer, normalised
from lesion_exp.explanation.grad_cam import GradCam
from lesion_exp.explanation.grad_cam_plus_plus import GradCamPlusPlus
from lesion_exp.explanation.integrated_gradients import IntegratedGradients
from lesion_exp.explanation.lime import Lime
from lesion_exp.explanation.occlusion import Occlusion
from lesion_exp.explanation.saliency_map import pointing_hit, share_inside
from lesion_exp.explanation.shap import Shap

PERTURBING = [
    pytest.param(IntegratedGradients, {"steps": 8}, None, id="integrated_gradients"),
    pytest.param(Occlusion, {}, None, id="occlusion"),
    pytest.param(Lime, {"samples": 200}, "lime", id="lime"),
    pytest.param(Shap, {"evaluations": 200}, "shap", id="shap", marks=pytest.mark.slow),  # numba compiles it first
]
CAMS = [
    pytest.param(GradCam, {}, None, id="grad_cam"),
    pytest.param(GradCamPlusPlus, {}, None, id="grad_cam_plus_plus"),
]
ALL = [*CAMS, *PERTURBING]


@pytest.mark.parametrize(("method", "options", "package"), ALL)
def test_maps_go_from_0_to_1_at_the_size_of_the_images(network, images, targets, method, options, package):
    pytest.importorskip(package or "torch")
    maps = method(**options)(network, images, targets)
    assert maps.shape == (3, 16, 16)
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    assert set(maps.amax(dim=(1, 2)).tolist()) <= {0.0, 1.0}
    assert maps.max() == 1
    assert not maps.requires_grad


@pytest.mark.parametrize(("method", "options", "package"), PERTURBING)
def test_a_map_is_highest_where_the_network_looks(bright, method, options, package):
    pytest.importorskip(package or "torch")
    for_it, against_it = (method(**options)(bright.network, bright.images, torch.tensor([c, c])) for c in (1, 0))
    mask = bright.mask.numpy()
    assert mask.mean() < 0.07
    assert min(share_inside(found.numpy(), mask) for found in for_it) > 0.3
    assert min(pointing_hit(found.numpy(), mask) for found in for_it) > 0.9
    assert not any(share_inside(found.numpy(), mask) > 0.07 for found in against_it), (
        "brightness speaks against class 0"
    )


@pytest.mark.parametrize(("method", "options", "package"), ALL)
def test_what_goes_with_an_image_stays_with_it(with_metadata, images, targets, method, options, package):
    pytest.importorskip(package or "torch")
    explainer = method(**options)
    together = explainer(with_metadata, images, targets)
    for row in range(3):
        alone = explainer(with_metadata.for_image(row), images[row : row + 1], targets[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-4, rtol=1e-3)
    other = explainer(with_metadata.for_image(1), images[:1], targets[:1])
    assert not torch.allclose(together[0], other[0], atol=1e-3)


def weighted(method, last):
    return (method.weights(last.maps, last.gradients)[:, :, None, None] * last.maps).sum(dim=1)


@pytest.mark.parametrize("layer", [None, "features.0"])
def test_grad_cam_is_captums(network, images, targets, layer):
    module = network.body.network.get_submodule(layer or "features")
    expected = LayerGradCam(network, module).attribute(images, targets)[:, 0]
    torch.testing.assert_close(weighted(GradCam(), network.last_maps(images, targets, layer)), expected)


def test_a_map_that_is_too_coarse_is_said_once(network, images, targets, caplog):
    explainer = GradCam()
    for _ in range(2):
        explainer(network, images[:, :, :8, :8], targets)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("maps of 4 x 4 cells are too coarse")
    assert said.endswith("an earlier layer has 8 x 8 (explain and serve: grad_cam.layer=features.0)")
    assert network.last_maps(images[:, :, :8, :8], targets, "features.0").maps.shape[-1] == 8
    GradCam()(network, images, targets)
    assert len(caplog.records) == 1, "8 x 8 cells are enough"


def test_where_no_layer_has_finer_maps_a_larger_image_is_the_remedy(network, images, targets, caplog):
    GradCam()(network, images[:, :, :4, :4], targets)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "maps of 2 x 2 cells are too coarse to locate anything in a lesion; train with a larger image_size"


def test_grad_cam_plus_plus_is_its_formula(network, images, targets):
    last = network.last_maps(images, targets)
    maps, gradients = last.maps.double(), last.gradients.double()
    found = weighted(GradCamPlusPlus(), last)
    for row in range(3):
        expected = torch.zeros(8, 8, dtype=torch.float64)
        for a, g in zip(maps[row], gradients[row], strict=True):
            weight = 0.0
            for place in g.nonzero().tolist():
                slope = g[*place]
                weight += slope**2 / (2 * slope**2 + a.sum() * slope**3) * max(slope, 0.0)
            expected += weight * a
        torch.testing.assert_close(found[row].double(), expected, atol=1e-5, rtol=1e-3)


class Kinked(torch.nn.Module):
    """Logits whose gradient jumps on the way to the image: 100 max(m - 0.17, 0) - m and |m - 0.37| of its mean m."""

    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([100 * (mean - 0.17).clamp(min=0) - mean, (mean - 0.37).abs()], dim=1)


def differences(network, images, targets):
    logits = [network(batch).gather(1, targets[:, None])[:, 0] for batch in (images, torch.zeros_like(images))]
    return (logits[0] - logits[1]).detach()


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(network, images, targets):
    explainer = IntegratedGradients()
    parts = explainer.attribute(network, images, targets)
    torch.testing.assert_close(parts.sum(dim=(1, 2)), differences(network, images, targets), atol=1e-6, rtol=0.01)
    assert explainer.notes[0].startswith("the sums of 3 of 3 maps are the difference of the logits within 1%;")


def test_integrated_gradients_take_more_steps_where_the_gradient_jumps(network, images, targets):
    """Four steps miss by more than a tenth; 324 at most do not, and what still misses is said."""
    kinked, bright = Kinked(), torch.full((2, 3, 4, 4), 0.4)
    explained = network.__class__(kinked_classifier(kinked), network.body)
    fixed, refined = (IntegratedGradients(4, 0.01, most) for most in (4, 324))
    chosen = torch.tensor([0, 1])
    truth = differences(explained, bright, chosen)
    missed, met = (e.attribute(explained, bright, chosen).sum(dim=(1, 2)) for e in (fixed, refined))
    assert ((missed - truth).abs() > 0.1 * truth.abs()).all()
    assert ((met - truth).abs() <= 0.0101 * truth.abs()).all()
    assert "the sums of 0 of 2 maps" in fixed.notes[0]
    assert "the sums of 2 of 2 maps" in refined.notes[0]
    farthest = float(((missed - truth) / truth).abs().max())
    assert fixed.notes[0].endswith(f"largest error is {farthest:.1%}")
    assert IntegratedGradients().notes == ()


def kinked_classifier(kinked):
    class Classifier(torch.nn.Module):
        def forward(self, batch):
            return kinked(batch["image"])

    return Classifier()


def test_frozen_weights_can_be_explained(network, images, targets):
    before = GradCam()(network, images, targets)
    network.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(GradCam()(network, images, targets), before)


def test_nothing_is_left_behind(network, images, targets):
    GradCam()(network, images, targets)
    with pytest.raises(ConfigError):
        GradCam("features.9")(network, images, targets)
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(("layer", "said"), [("featurs", "'features'"), ("pool", "integrated_gradients")])
def test_a_layer_that_does_not_do_is_refused(network, images, targets, layer, said):
    with pytest.raises(ConfigError, match=said):
        GradCam(layer)(network, images, targets)


@pytest.mark.parametrize(("method", "options"), [
    (IntegratedGradients, {"steps": 1}), (IntegratedGradients, {"tolerance": 0.0}),
    (IntegratedGradients, {"max_steps": 31}), (Occlusion, {"window": 1.0}), (Occlusion, {"stride": 0.0}),
    (Lime, {"samples": 5}), (Lime, {"superpixels": 1}), (Shap, {"evaluations": 3}),
])  # fmt: skip
def test_a_value_out_of_its_range_is_refused(method, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        method(**options)


@pytest.mark.parametrize(("method", "module"), [(Lime, "lime.lime_base"), (Shap, "shap")])
def test_a_package_that_is_missing_is_named(network, images, targets, monkeypatch, method, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"pip install {module.partition('.')[0]}"):
        method()(network, images, targets)


def test_the_announced_passes_are_those_that_are_made(network, images, targets):
    seen = []
    network.classifier.register_forward_pre_hook(lambda _, given: seen.append(len(given[0]["image"])))
    occlusion = Occlusion()
    occlusion(network, torch.randn(1, 3, 64, 64), targets[:1])
    assert sum(seen) == pytest.approx(occlusion.passes, rel=0.25)
    seen.clear()
    for tolerance, steps in ((1.0, 10), (1e-9, 90)):
        gradients = IntegratedGradients(10, tolerance, 90)
        gradients(network, images[:1], targets[:1])
        assert sum(seen) == steps + 2, "the points of a refinement include the old ones; two more are the ends"
        seen.clear()
    assert gradients.passes == 3 * 30, "each with its backward pass, refined once"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (lambda images: images, r"a tensor \(N, h, w\).*got a tensor of shape \(3, 3, 16, 16\); found.sum"),
        (lambda images: images[:1, 0], r"for each of 3 images, got a tensor of shape \(1, 16, 16\)"),
        (lambda images: images[:, 0].numpy(), "got ndarray; torch.as_tensor"),
        (lambda images: None, "got NoneType"),
    ],
)
def test_what_is_no_map_for_each_image_is_refused(network, images, targets, found, says):
    class Mine(Explainer):
        passes = 1

        def attribute(self, network, images, targets):
            return found(images)

    with pytest.raises(ConfigError, match=f"expected Mine.attribute to return .*{says}"):
        Mine()(network, images, targets)


def test_every_method_that_ships_is_tested_here():
    tested = {parameter.id for parameter in ALL}
    assert tested == set(option_names("explanation", [conf_dir()])), "add it to PERTURBING or CAMS"


def test_a_map_has_the_positive_attributions():
    found = normalised(torch.tensor([[[2.0, -4.0], [1.0, 0.0]], [[-1.0, -2.0], [0.0, -3.0]]]), (2, 2))
    assert found.tolist() == [[[1.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]

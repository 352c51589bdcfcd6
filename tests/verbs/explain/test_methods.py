import importlib.util

import pytest

from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.errors import ConfigError
from lesion_exp.explanation.grad_cam import GradCam
from lesion_exp.explanation.occlusion import Occlusion
from lesion_exp.verbs.explain.request import (
    DEFAULT_METHODS,
    ExplanationRequest,
    about,
    is_installed,
    make_explainer,
    method_names,
)

SHIPPED = [conf_dir()]


def test_settings_win_over_the_yaml():
    made = make_explainer("occlusion", SHIPPED, {"window": 0.1})
    assert isinstance(made, Occlusion)
    assert (made.window, made.stride) == (0.1, 0.5)


def test_a_method_of_the_users_own(tmp_path):
    (tmp_path / "explanation").mkdir()
    (tmp_path / "explanation" / "fine.yaml").write_text(
        "_target_: lesion_exp.explanation.grad_cam.GradCam\nlayer: layer3\n"
    )
    folders = [*SHIPPED, tmp_path]
    assert "fine" in method_names(folders)
    made = make_explainer("fine", folders)
    assert isinstance(made, GradCam)
    assert made.layer == "layer3"
    (tmp_path / "explanation" / "fine.yaml").write_text("_target_: lesion_exp.loss.focal.FocalLoss\n")
    with pytest.raises(ConfigError):
        make_explainer("fine", folders, {"class_counts": [1, 2]})


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("grad-cam", {}, "'grad_cam'"),
        ("base", {}, "to be one of grad_cam, .*got 'base'$"),
        ("occlusion", {"windw": 1}, "'window'"),
        ("occlusion", {"window": 2}, "share of the side"),
    ],
)
def test_what_is_unknown_is_refused(name, settings, said):
    with pytest.raises(ConfigError, match=said):
        make_explainer(name, SHIPPED, settings)


def test_a_method_whose_package_is_missing_is_refused_before_any_data_is_read(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "lime" else find(name, *rest))
    with pytest.raises(ConfigError, match="pip install lime"):
        make_explainer("lime", SHIPPED)
    assert not is_installed("lime", SHIPPED)
    assert is_installed("occlusion", SHIPPED)


def test_every_method_says_what_it_does():
    assert set(DEFAULT_METHODS) <= set(method_names(SHIPPED))
    assert all(len(about(name, SHIPPED)) > 30 for name in method_names(SHIPPED))


def test_costly_methods_are_asked_about_fewer_images():
    request = ExplanationRequest({})
    counts = [request.num_images(make_explainer(name, SHIPPED)) for name in ("grad_cam", "integrated_gradients")]
    assert counts[0] > 10 * counts[1] >= 200
    assert ExplanationRequest({}, images=7).num_images(GradCam()) == 7

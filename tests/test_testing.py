"""Every shipped option fulfils what an option must, and options that do not are found out."""

import sys
from types import ModuleType

import numpy as np
import pytest
from torch import nn

from lesion_exp.augmentation.library import ImageTransform
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.config.shipped_conf import conf_dir, option_names
from lesion_exp.errors import ConfigError
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.testing import check_option

GROUPS = (
    *("backbone", "loss", "optimizer", "scheduler", "sampler", "split", "augmentation", "augmentation/transform"),
    *("explanation", "dataset", "pretrain"),
)
NEEDS = {
    "backbone=timm": ["backbone.name=resnet10t"],
    "backbone=torchvision": ["backbone.name=shufflenet_v2_x0_5"],
    "backbone=maxvit_t": ["image_size=224"],
    "loss=binary_cross_entropy": ["task.target=malignant"],
    "loss=distill": ["loss.teacher=0123456789abcdef0123456789abcdef", "loss.teacher_weights=0123456789abcdef"],
    "optimizer=logistic_path": ["backbone.tune=head", "augmentation=none"],
    "scheduler=cosine": ["scheduler.warmup_epochs=0"],
    "split=by_image": ["split.allow_leakage=true"],
    "split=resample_then_split": ["split.allow_leakage=true"],
    "split=file": ["split.path=split.csv"],
    "dataset=combined": ["dataset.sets={}"],
    "dataset=csv": ["dataset.table=table.csv"],
}
PACKAGES = {
    "backbone=timm": "timm", "optimizer=lion": "pytorch_optimizer", "optimizer=lamb": "pytorch_optimizer",
    **{f"pretrain={method}": "lightly" for method in ("simclr", "vicreg", "byol", "dino", "mae")},
    **{f"backbone=efficientnet_lite{number}": "timm" for number in (0, 1, 2)},
    "explanation=lime": "lime", "explanation=shap": "shap",
}  # fmt: skip
NOT_TRAINED = (
    *("split=file", "split=official", "explanation=shap", "pretrain=mae"),
    *("backbone=efficientnet_lite1", "backbone=efficientnet_lite2", "backbone=efficientnet_b0", "backbone=deep_cnn"),
    *("backbone=efficientnet_v2_s", "backbone=mobilenet_v3_large", "backbone=densenet121", "backbone=convnext_tiny"),
    *("backbone=resnet50", "backbone=resnext50_32x4d", "backbone=wide_resnet50_2", "backbone=swin_t"),
    "backbone=maxvit_t",
)
"""Options that read what a generated data set does not have, need another network, compile for long, or are networks
of which a smaller one of each kind is trained here; their own tests train with them."""


def options():
    for group in GROUPS:
        for name in option_names(group, [conf_dir()]):
            yield f"{group}={name}"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("options")


@pytest.mark.parametrize("chosen", options())
def test_every_shipped_option_is_one(chosen, root):
    if chosen in PACKAGES:
        pytest.importorskip(PACKAGES[chosen], reason=f"{chosen} needs an extra that is not installed")
    group, _, option = chosen.partition("=")
    train = chosen not in NOT_TRAINED and (group != "dataset" or option == "synthetic")
    overrides = NEEDS.get(chosen, [])
    if group == "dataset" and option not in ("synthetic", "combined"):
        overrides = [*overrides, f"dataset.root={root}"]
    check_option(group, option, *overrides, root=root, train=train)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a user's own, with its YAMLs; writes an option into it."""
    module = ModuleType("options_of_the_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv(TRUST_VARIABLE, module.__name__)

    def write(group, target, text):
        folder = tmp_path / "conf" / group
        folder.mkdir(parents=True, exist_ok=True)
        target.__module__ = module.__name__
        setattr(module, target.__name__, target)
        (folder / "mine.yaml").write_text(f"# Mine.\n{text.replace('TARGET', f'{module.__name__}.{target.__name__}')}")
        return {"config_dirs": [tmp_path / "conf"], "root": tmp_path / "project"}

    return write


def ten_lines(channels):
    """A backbone of one's own."""
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))


def scaled(logits, labels, scale=2.0):
    """A loss of one's own."""
    return scale * nn.functional.cross_entropy(logits, labels)


def every_third(self, table):
    """The `split` of a splitter of one's own, which needs no groups of its own making."""
    part = [("train", "val", "test")[int(name, 36) % 3] for name in table["group"].str[-2:]]
    return table.assign(split=part)


BACKBONE = "defaults: [base, _self_]\n_target_: TARGET\nchannels: 6  # of its only convolution\n"
LOSS = "_target_: TARGET\nscale: 2.0  # factor of the loss\n"


def test_options_of_a_package_of_ones_own_pass(package):
    check_option("backbone", "mine", **package("backbone", ten_lines, BACKBONE))
    check_option("loss", "mine", **package("loss", scaled, LOSS))
    splitter = type("Mine", (), {"split": every_third})
    check_option("split", "mine", **package("split", splitter, "defaults: [base, _self_]\n_target_: TARGET\n"))


def test_the_steps_of_an_option_end_without_a_warning_of_the_warm_up(root, recwarn):
    check_option("loss", "focal", root=root)
    assert not [told for told in recwarn if "warm-up" in str(told.message)]


def flat(logits, labels, scale=2.0):
    """A loss that trains nothing."""
    return scale * 0.0 * logits.sum()


def whole(logits, labels, scale=2):
    """A loss whose factor is a whole number."""
    return scaled(logits, labels, scale)


def listed(logits, labels, scale=2.0, sizes=(1.0, 2)):
    """A loss with a list of numbers."""
    return scaled(logits, labels, scale)


def switched(logits, labels, scale=2.0, flag=True):
    """A loss with a truth value."""
    return scaled(logits, labels, scale)


def takes_anything(logits, labels, scale=2.0, **more):
    """A loss that swallows what it does not know."""
    return scaled(logits, labels, scale)


def per_image(logits, labels, scale=2.0):
    """A loss that forgets the mean."""
    return scale * nn.functional.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize(
    ("target", "text", "error", "says"),
    [
        (scaled, "_target_: TARGET\n", AssertionError, "scale of .* are not in the YAML"),
        (scaled, f"{LOSS}more: 1  # unknown\n", AssertionError, "more are not parameters"),
        (scaled, LOSS.replace("2.0", "3.0"), AssertionError, "3.0 in the YAML and 2.0 in the signature"),
        (
            scaled,
            LOSS.replace("2.0", "2"),
            AssertionError,
            "2 in the YAML and 2.0 in the signature; write both",
        ),
        (whole, LOSS, AssertionError, "2.0 in the YAML and 2 in the signature; write both as the same"),
        (listed, f"{LOSS}sizes: [1, 2]  # in pixels\n", AssertionError, r"\[1, 2\] in the YAML and \(1.0, 2\) in the"),
        (switched, f"{LOSS}flag: 1  # whether\n", AssertionError, "flag is 1 in the YAML and True in the signature"),
        (scaled, LOSS.replace("# factor of the loss", ""), AssertionError, "has no comment"),
        (takes_anything, LOSS, AssertionError, r"takes \*\*kwargs"),
        (flat, LOSS, AssertionError, "expected weights that change, but none changed"),
        (per_image, LOSS, ConfigError, "mean over the batch"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(package, target, text, error, says):
    with pytest.raises(error, match=says):
        check_option("loss", "mine", "optimizer.weight_decay=0", **package("loss", target, text))


def varying(self, table, rng):
    """The `order` of a sampler whose epochs are not equally long."""
    return rng.permutation(len(table))[: rng.integers(8, len(table))]


def noise(self, img, **params):
    """The `apply` of a transform that takes its random numbers from elsewhere."""
    return img // 2 + np.random.randint(0, 99, img.shape).astype(np.uint8)  # noqa: NPY002 - what is not allowed


def channels(self, network, images, targets):
    """The `attribute` of a way to explain that forgets the sum over channels."""
    return images


@pytest.mark.parametrize(
    ("group", "base", "methods", "error", "says"),
    [
        ("sampler", object, {"order": varying}, AssertionError, "equally long, got [0-9]+ to [0-9]+"),
        ("augmentation/transform", ImageTransform, {"apply": noise}, AssertionError, r"follow from self\.random_gen"),
        ("explanation", Explainer, {"attribute": channels, "passes": 1}, ConfigError, r"Mine\.attribute to return"),
    ],
)
def test_what_an_option_of_a_group_promises_is_checked(package, group, base, methods, error, says):
    parameter = "p: 1.0  # probability\n" if base is ImageTransform else ""
    given = {"__init__": lambda self, p=1.0: ImageTransform.__init__(self, p=p)} if parameter else {}
    mine = type("Mine", (base,), {**methods, **given})
    with pytest.raises(error, match=says):
        check_option(group, "mine", **package(group, mine, f"_target_: TARGET\n{parameter}"))

"""Which classes and functions a config may name: whatever is planted anywhere else is refused, and never imported."""

import ast
import copy
import importlib
import inspect
import json
import random
import sys
from pathlib import Path

import albumentations
import numpy as np
import pytest
import pytorch_lightning  # noqa: F401 - its names are planted
import torch
import torchvision.transforms.v2  # noqa: F401 - its names are planted
import yaml
from safetensors.torch import save_file

import lesion_exp
from lesion_exp.config.compose import compose
from lesion_exp.config.instantiate import check_targets, instantiate
from lesion_exp.config.registered import (
    LIBRARY_OPTIONS,
    TRANSFORM,
    check_registered,
    group_at,
    is_registered,
    registered_options,
)
from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.errors import ConfigError
from lesion_exp.model.restore import restore, restore_file

LIBRARIES = ("torch", "torchvision", "albumentations", "pytorch_lightning", "lightning_fabric", "mlflow", "hydra")
DANGEROUS = (
    "os", "posix", "subprocess", "shutil", "builtins", "pickle", "marshal", "shelve", "importlib", "runpy", "code",
    "codeop", "pty", "ctypes", "socket", "socketserver", "urllib.request", "http.server", "http.client", "ftplib",
    "smtplib", "webbrowser", "tempfile", "pathlib", "sys", "io", "zipfile", "tarfile", "logging", "logging.config",
    "logging.handlers", "timeit", "trace", "pdb", "bdb", "profile", "cProfile", "multiprocessing", "threading",
    "asyncio", "signal", "atexit", "gc", "types", "functools", "operator", "platform", "pkgutil", "zipimport",
    "xmlrpc.client", "sqlite3", "doctest", "unittest", "venv", "ensurepip", "site", "compileall", "py_compile",
)  # fmt: skip
NUM_PLANTED = 2_400


def names_of_the_package():
    """Everything that a module of the package defines or imports, read from its source."""
    package = Path(lesion_exp.__file__).parent
    for path in package.rglob("*.py"):
        module = ".".join(("lesion_exp", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield f"{module}.{node.name}"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    yield f"{module}.{alias.asname or alias.name}"


def names_of(modules):
    for module in modules:
        for name in dir(sys.modules[module]):
            yield f"{module}.{name}"


@pytest.fixture(scope="module")
def names():
    for module in DANGEROUS:
        importlib.import_module(module)
    loaded = [name for name in sys.modules if name.split(".")[0] in LIBRARIES]
    found = {*names_of_the_package(), *names_of(loaded), *names_of(DANGEROUS)}
    return sorted(name for name in found if not name.rpartition(".")[2].startswith("_"))


@pytest.fixture(scope="module")
def config():
    augmentation = ("augmentation=heavy", "+augmentation/transform@augmentation.preprocess.gray=shades_of_gray")
    return compose(["dataset.sets={a: /data}", "dataset=combined", *augmentation], root=Path("/project")).config


def options_in_the_yamls():
    """Group -> targets, read with a YAML reader, for each top-level key of a group's file and all nodes inside it."""
    found = {}

    def look(group, node, inside):
        if isinstance(node, dict):
            if "_target_" in node:
                found.setdefault(TRANSFORM if inside else group, set()).add(node["_target_"])
            for key, value in node.items():
                look(group, value, inside or key in ("transforms", "preprocess"))

    for path in conf_dir().rglob("*.yaml"):
        content, group = (
            yaml.safe_load(path.read_text(encoding="utf-8")),
            path.parent.relative_to(conf_dir()).as_posix(),
        )
        if group == "experiment":
            for key, node in content.items():
                look(key, node, False)
        else:
            look(group, content, False)
    return found


def test_the_options_are_those_that_the_yamls_name_and_the_listed_ones():
    expected = options_in_the_yamls()
    for group, libraries in LIBRARY_OPTIONS.items():
        for library, listed in libraries.items():
            expected[group] |= {f"{library}.{name}" for name in listed}
    assert {group: set(targets) for group, targets in registered_options().items()} == expected


def test_nothing_else_is_an_option_of_any_group(names):
    allowed = {(group, target) for group, targets in registered_options().items() for target in targets}
    accepted = {(group, name) for group in registered_options() for name in names if is_registered(name, group)}
    assert len(names) > 10_000
    assert accepted <= allowed
    assert len(accepted) > 150, "the names of the options themselves are among those that were planted"


def places(node, prefix=""):
    """Every key of a config, of nodes and of values."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}"
        yield from places(value, f"{prefix}{key}.")


def planted(config, place, target):
    changed = copy.deepcopy(config)
    *parents, leaf = place.split(".")
    node = changed
    for parent in parents:
        node = node[parent]
    if isinstance(node[leaf], dict):
        node[leaf]["_target_"] = target
    else:
        node[leaf] = {"_target_": target}
    return changed


def test_options_stand_at_few_keys_of_a_config(config):
    groups = {place: group_at(place) for place in places(config) if group_at(place) in registered_options()}
    assert {place for place, group in groups.items() if group != TRANSFORM} == {
        "augmentation", "augmentation.mix", "backbone", "dataset", "loss", "optimizer", "sampler", "scheduler", "split",
    }  # fmt: skip
    assert "augmentation.preprocess.gray" in groups
    assert "augmentation.transforms.distort.transforms.elastic" in groups
    assert not {"augmentation.transforms", "augmentation.transforms.distort.transforms"} & set(groups)


def test_what_is_planted_into_a_config_is_refused_before_anything_is_imported(names, config, monkeypatch):
    rng = random.Random(12)
    keys = sorted(places(config))
    monkeypatch.setattr(importlib, "import_module", lambda name, *_: pytest.fail(f"{name} was imported"))
    refused, used = 0, set()
    while refused < NUM_PLANTED:
        target, place = rng.choice(names), keys[refused % len(keys)]
        if is_registered(target, group_at(place)):
            continue
        with pytest.raises(ConfigError, match=r"_target_"):
            check_targets(planted(config, place, target))
        refused += 1
        used.add(place)
    assert used == set(keys), "every key of the config was planted into"


def test_the_shipped_configs_pass(config):
    check_registered(config)


CALLED = {"_target_": "lesion_exp.sweeps.launcher.launcher.run_cell_process", "folder": ".", "variables": {}}


def test_a_file_of_weights_and_a_checkpoint_are_refused_before_they_are_built(tmp_path):
    card = {"config": {"augmentation": {"mix": CALLED}}, "metadata": None, "classes": ["a", "b"]}
    save_file({}, str(tmp_path / "best.safetensors"), metadata={"format": "pt", "lesion_exp": json.dumps(card)})
    with pytest.raises(ConfigError, match=r"run_cell_process' in augmentation\.mix\._target_"):
        restore_file(tmp_path / "best.safetensors")
    torch.save({"lesion_exp": {"metadata": None}, "state_dict": {}}, tmp_path / "best.ckpt")
    with pytest.raises(ConfigError, match=r"run_cell_process' in loss\._target_"):
        restore({"loss": CALLED}, tmp_path / "best.ckpt")


LISTED = LIBRARY_OPTIONS[TRANSFORM]["albumentations"]
NEEDED = {
    "CenterCrop": {"height": 32, "width": 32}, "Crop": {"x_max": 32, "y_max": 32}, "CropAndPad": {"px": 4},
    "CropNonEmptyMaskIfExists": {"height": 32, "width": 32}, "LongestMaxSize": {"max_size": 32},
    "GridElasticDeform": {"num_grid_xy": (2, 2), "magnitude": 2}, "RandomCrop": {"height": 32, "width": 32},
    "RandomResizedCrop": {"size": (32, 32)}, "RandomSizedCrop": {"min_max_height": (20, 32), "size": (32, 32)},
    "Resize": {"height": 32, "width": 32}, "SmallestMaxSize": {"max_size": 32},
}  # fmt: skip
HOLDS_OTHERS = ("OneOf", "OneOrOther", "RandomOrder", "Sequential", "SomeOf")


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.filterwarnings("ignore")
def test_a_listed_transform_returns_an_image_and_takes_neither_files_nor_functions(name):
    kind = getattr(albumentations, name)
    described = [f"{each.name} {each.annotation}" for each in inspect.signature(kind.__init__).parameters.values()]
    if name == "Equalize":  # its mask may be a function; a config can only give an array or another transform there
        described = [text for text in described if not text.startswith("mask ")]
    for word in ("Callable", "path", "Path", "file", "read_fn", "metadata", "reference"):
        assert not any(word in text for text in described), described
    node = {"_target_": f"albumentations.{name}", "p": 1.0, **NEEDED.get(name, {})}
    if name in HOLDS_OTHERS:
        node["transforms"] = [{"_target_": f"albumentations.{flip}"} for flip in ("HorizontalFlip", "VerticalFlip")]
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[10:30, 10:30] = 255
    made = instantiate(node, "augmentation.transforms.step")(image=image, mask=mask, force_apply=True)["image"]
    assert made.dtype == np.uint8
    assert made.shape[2] == 3


@pytest.mark.parametrize("name", ["FDA", "HistogramMatching", "Lambda", "PixelDistributionAdaptation", "TextImage"])
def test_transforms_that_read_files_or_take_functions_are_no_options(name):
    with pytest.raises(ConfigError, match=f"albumentations.{name}"):
        instantiate({"_target_": f"albumentations.{name}"}, "augmentation.transforms.step")


@pytest.mark.parametrize("name", LIBRARY_OPTIONS["optimizer"]["torch.optim"])
def test_a_listed_optimizer_makes_a_step(name):
    weights = torch.nn.Parameter(torch.ones(2, 2))
    groups = [{"params": [weights], "lr": 0.1}, {"params": [torch.nn.Parameter(torch.ones(1))]}]
    optimizer = instantiate({"_target_": f"torch.optim.{name}", "lr": 0.1}, "optimizer", params=groups)
    weights.grad = torch.ones(2, 2)
    optimizer.step()
    assert not torch.equal(weights, torch.ones(2, 2))

from __future__ import annotations

import ast
import os
import subprocess
import sys
import warnings
from pathlib import Path

import albumentations
import pytest

from lesion_exp.augmentation.library import ImageTransform, check_arguments, describe, refuse_repairs
from lesion_exp.errors import ConfigError

PACKAGE = Path(__file__).parents[2] / "lesion_exp"


def test_values_are_not_repaired_silently():
    with warnings.catch_warnings():
        refuse_repairs()
        with pytest.raises((UserWarning, ValueError), match="kernel size"):
            albumentations.MedianBlur(blur_limit=(1, 2))
        albumentations.MedianBlur(blur_limit=(3, 5))


def test_a_probability_is_one():
    flip = albumentations.HorizontalFlip()
    flip.p = 1.5
    with pytest.raises(ConfigError, match=r"somewhere\.p=1\.5"):
        check_arguments(flip, "somewhere")


def test_a_transform_whose_base_class_was_not_begun_is_told_how():
    class Mine(ImageTransform):
        def __init__(self):
            self.q = 1.0

    with pytest.raises(ConfigError, match=r"Mine at somewhere.*begin Mine\.__init__ with super\(\)\.__init__\(p=p\)"):
        check_arguments(Mine(), "somewhere")


def test_only_this_room_imports_the_library_and_through_one_door():
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.split(".")[0] == "albumentations" for name in names):
                importers.add(path.relative_to(PACKAGE))
    assert importers == {Path("augmentation", "library.py")}


def test_importing_asks_nothing_of_the_network():
    script = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('the network was asked')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "import lesion_exp.augmentation.steps\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_descriptions_show_what_differs_from_the_default():
    assert describe(albumentations.Rotate(limit=45, p=0.3)) == "Rotate(limit=±45, p=0.3)"
    assert describe(albumentations.GaussNoise(std_range=(0.1, 0.2), p=1)) == "GaussNoise(std_range=0.1..0.2, p=1)"
    assert describe(albumentations.Affine(rotate=(-10, 10), p=1)) == "Affine(rotate=±10, p=1)"
    both = albumentations.OneOf([albumentations.NoOp(p=1), albumentations.D4(p=1)], p=0.5)
    assert describe(both) == "OneOf(NoOp(p=1), D4(p=1), p=0.5)"

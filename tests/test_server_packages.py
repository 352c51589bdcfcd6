"""A machine that only predicts needs the packages in scripts/server.txt and no others."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from tests.untrained_run import untrained_run

PROJECT = Path(__file__).parent.parent
LISTED = PROJECT / "scripts" / "server.txt"
SERVES = """
import sys
import uvicorn
from lesion_exp.cli import main
from lesion_exp.progress import _rich_bar

_rich_bar()  # what a terminal shows

def stopped(server, sockets):
    raise KeyboardInterrupt  # the network is loaded, and has predicted an example

assert main(["predict", "run=latest", "input=lesion.png", "output=found.csv", "gradcam=maps"]) == 0
assert main(["predict", "run=best:val/accuracy", "input=lesion.png", "output=best.csv"]) == 2  # MLflow searches
uvicorn.Server.run = stopped
assert main(["serve", "run=latest", "port=0"]) == 130
print("served", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def names(text):
    return [name for line in text.splitlines() if (name := line.partition("#")[0].strip())]


def with_dependencies(wanted):
    """The installed distributions `wanted` and all that they need on this machine."""
    found, waiting = {}, [(name, "") for name in wanted]
    while waiting:
        name, extra = waiting.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        if (name, extra) in found:
            continue
        found[name, extra] = package
        for needed in map(Requirement, package.requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(re.sub(r"[-_.]+", "-", needed.name).lower(), each) for each in ("", *needed.extras)]
    return list(found.values())


def modules(name):
    return {file.parts[0].partition(".")[0] for file in distribution(name).files or [] if file.suffix == ".py"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with links to the modules of these packages."""
    folder = tmp_path_factory.mktemp("packages")
    for package in with_dependencies(names(LISTED.read_text("utf-8"))):
        for top in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))
    return folder


def test_every_listed_package_is_one_that_this_project_or_mlflow_asks_for():
    asked = {Requirement(text) for text in distribution("lesion-exp").requires or []}
    own = {one.name.lower() for one in asked if one.marker is None or one.marker.evaluate({"extra": "serve"})}
    of_mlflow = {Requirement(text).name.lower() for text in distribution("mlflow").requires or []}
    assert set(names(LISTED.read_text("utf-8"))) <= own | of_mlflow


@pytest.mark.slow
def test_serve_and_predict_work_with_the_listed_packages_alone_and_import_each(packages, root):
    untrained_run(root, "augmentation=colour_constancy", "backbone=resnet18")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(root / "lesion.png")
    path = os.pathsep.join(map(str, (packages, PROJECT)))
    done = subprocess.run(
        [sys.executable, "-S", "-c", SERVES], cwd=root, env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    unused = [name for name in names(LISTED.read_text("utf-8")) if not modules(name) & imported]
    assert unused == []

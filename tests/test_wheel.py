"""The wheel and the source archive: what they hold, and that the package in the wheel works without a checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_sdist, build_wheel

from lesion_exp.version import __version__

PROJECT = Path(__file__).parent.parent
IN_THE_WHEEL = ("conf/", "hydra_plugins/", "lesion_exp/")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        build_wheel(str(folder))
        build_sdist(str(folder))
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    [path] = built.glob("*.whl")
    return path


def files_of_git():
    """Also those that will be added; none that git ignores."""
    command = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    return {name for name in listed.stdout.splitlines() if (PROJECT / name).is_file()}


def test_the_wheel_holds_the_package_with_its_configs_and_nothing_else(wheel):
    expected = {name for name in files_of_git() if name.startswith(IN_THE_WHEEL)}
    expected = {f"lesion_exp/{name}" if name.startswith("conf/") else name for name in expected}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in held if ".dist-info/" not in name} == expected
    assert f"lesion_exp-{__version__}.dist-info/licenses/LICENSE" in held


def test_the_source_archive_holds_the_repository_and_nothing_else(built):
    [path] = built.glob("*.tar.gz")
    top = f"lesion_exp-{__version__}/"
    with tarfile.open(path) as archive:
        assert {name.removeprefix(top) for name in archive.getnames()} == files_of_git() | {"PKG-INFO"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--version"], f"lesion-exp {__version__}"),
        (["schema", "loss"], '"label_smoothing"'),
        (["train", "--help"], "dataset=ham10000"),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else None,
)
def test_the_package_of_the_wheel_works_in_another_folder(wheel, words, shown, tmp_path):
    """The folder of the unpacked wheel comes before the checkout on Python's path."""
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    code = f"import lesion_exp, runpy; assert lesion_exp.__file__.startswith({str(installed)!r}); "
    code += "runpy.run_module('lesion_exp', run_name='__main__', alter_sys=True)"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout

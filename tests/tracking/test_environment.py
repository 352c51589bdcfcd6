import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest

from lesion_exp.tracking import environment as environment_module
from lesion_exp.tracking.environment import (
    SourceState,
    environment,
    nvidia_smi,
    source_state,
    system_metrics,
    version_differences,
)


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *author, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("version = 1\n")
    git(package.parent, "init")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-m", "first")
    return package


def test_clean_checkout(checkout: Path) -> None:
    state = source_state(checkout)
    assert len(state.commit) == 40
    assert (state.dirty, state.patch) == (False, None)
    assert state.tags()["git_dirty"] == "false"


def test_changed_checkout_keeps_the_patch(checkout: Path) -> None:
    (checkout / "__init__.py").write_text("version = 2\n")
    state = source_state(checkout)
    assert state.dirty
    assert state.patch is not None
    assert "+version = 2" in state.patch
    assert state.tags() == {
        "git_commit": state.commit,
        "git_dirty": "true",
        "git_changes": state.changes,
        "mlflow.source.git.commit": state.commit,
    }
    files = environment(state, num_threads=2)
    assert files["changes.patch"] == state.patch
    assert json.loads(files["git.json"]) == {"commit": state.commit, "dirty": True}


def test_other_uncommitted_changes_of_the_package_are_another_version(checkout: Path) -> None:
    clean = source_state(checkout).tags()
    (checkout.parent / "README.md").write_text("first\n")
    git(checkout.parent, "add", ".")
    beside = source_state(checkout).tags()
    (checkout / "__init__.py").write_text("version = 2\n")
    changed = source_state(checkout).tags()
    (checkout / "__init__.py").write_text("version = 3\n")
    again = source_state(checkout).tags()
    assert (clean["git_dirty"], beside["git_dirty"]) == ("false", "true")
    assert version_differences(clean, beside) == version_differences(again, dict(again)) == []
    what = "set of uncommitted changes of lesion_exp"
    assert version_differences(clean, changed) == [f"{what}: none then, {changed['git_changes']} now"]
    assert version_differences(changed, again) == [f"{what}: {changed['git_changes']} then, {again['git_changes']} now"]
    before = {"git_commit": changed["git_commit"], "git_dirty": "true"}
    assert version_differences(before, again) == [], "an earlier version did not record them"


def test_large_patch_is_left_out(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_module, "LARGEST_PATCH", 10)
    (checkout / "__init__.py").write_text("version = 2\n")
    assert source_state(checkout).patch is None


def test_package_installed_inside_another_project_s_checkout_has_no_commit(checkout: Path) -> None:
    installed = checkout.parent / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert source_state(installed) == SourceState("", dirty=False, patch=None)
    assert source_state(installed).tags() == {}


def test_what_is_shared_is_the_state_at_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_module, "_SHARED", [])
    monkeypatch.setattr(environment_module, "_SHARED_PACKAGES", [])
    monkeypatch.setattr(environment_module, "_git", lambda folder, *words: "a" * 40 if words[0] != "status" else "")
    environment_module.share_source_state()
    monkeypatch.setattr(environment_module, "distributions", lambda: pytest.fail("the packages were read again"))
    assert "packages.txt" in environment(source_state(), num_threads=1)
    monkeypatch.setattr(environment_module, "_git", lambda *_: pytest.fail("the state was read again"))
    assert source_state() == SourceState("a" * 40, dirty=False, patch=None)


def test_packages_are_those_that_python_names() -> None:
    files = environment(SourceState("", dirty=False, patch=None), num_threads=1)
    known = {f"{package.name}=={package.version}" for package in distributions() if package.name}
    assert set(files["packages.txt"].splitlines()) == known


def test_environment_names_packages_and_machine_but_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    files = environment(SourceState("", dirty=False, patch=None), num_threads=3)
    assert set(files) == {"packages.txt", "python.json", "hardware.json"}
    assert "hunter2" not in "".join(files.values())
    packages = files["packages.txt"].splitlines()
    assert f"numpy=={np.__version__}" in packages
    assert packages == sorted(packages, key=str.lower)
    python = json.loads(files["python.json"])
    assert python["torch_num_threads"] == 3
    assert python["variables"]["OMP_NUM_THREADS"] == "1"
    assert python["python"] == ".".join(str(part) for part in sys.version_info[:3])
    hardware = json.loads(files["hardware.json"])
    assert hardware["memory_gib"] > 0
    assert hardware["usable_cores"] <= hardware["logical_cores"]


def pretend_gpu(folder: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{answer}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_each_gpu_has_its_readings_and_unknown_ones_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(tmp_path, "echo '0, 1000, 4000, 37, 71.5'; echo '1, 0, 4000, [N/A], [N/A]'", monkeypatch)
    values = system_metrics()
    assert values["system/gpu_0_memory_usage_megabytes"] == 1048.6
    assert values["system/gpu_0_memory_usage_percentage"] == 25.0
    assert values["system/gpu_0_utilization_percentage"] == 37.0
    assert values["system/gpu_0_power_usage_watts"] == 71.5
    assert values["system/gpu_1_memory_usage_megabytes"] == 0.0
    assert "system/gpu_1_utilization_percentage" not in values


def test_driver_that_fails_gives_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(tmp_path, "echo 'no devices were found'; exit 6", monkeypatch)
    assert nvidia_smi("index") == []
    assert not any("gpu" in name for name in system_metrics())

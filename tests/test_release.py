"""The version stands in one place, and what a release consists of agrees with it."""

import re
import tomllib
from pathlib import Path

import yaml

from lesion_exp.version import __version__

PROJECT = Path(__file__).parent.parent


def test_the_version_stands_in_one_module_which_everything_follows():
    config = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    assert "version" in config["project"]["dynamic"]
    assert (PROJECT / config["tool"]["hatch"]["version"]["path"]).read_text("utf-8").count(f'"{__version__}"') == 1
    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text("utf-8"))["version"] == __version__
    [newest, *_] = re.findall(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest == __version__


def test_the_workflows_run_what_continuous_integration_runs_on_each_python():
    files = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (PROJECT / ".github/workflows").iterdir()}
    job = files["ci"]["jobs"]["ci"]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    classifiers = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    named = [text.rpartition(" ")[2] for text in classifiers if "Python :: 3." in text]
    assert job["strategy"]["matrix"]["python"] == named
    config = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    assert {"tests", ".github", ".ci"} <= set(config["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    publish = files["publish"]["jobs"]
    assert publish[publish["publish"]["needs"][0]]["uses"] == "./.github/workflows/ci.yml"
    assert publish["publish"]["needs"] == ["ci", "long", "build"]
    assert "workflow_call" in files["ci"][True]  # YAML reads the key on as a truth value
    assert files["publish"]["jobs"]["publish"]["permissions"] == {"id-token": "write"}

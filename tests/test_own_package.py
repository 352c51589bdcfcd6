"""A user's package with its own data set, split, network and loss, from training to prediction."""

import json
import os
import shlex
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.cli import main
from lesion_exp.config.freeze import read_job
from lesion_exp.config.own_code import _warn_once
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.store import open_store
from tests.own_process import restored

PACKAGE = '''
    from pathlib import Path

    import pandas as pd
    from torch import nn

    from lesion_exp.dataset.table import standardize


    def read_rooms(root):
        """The table of a clinic's rooms: the class and the lesion stand in a file's name."""
        paths = sorted(Path(root).glob("*.png"))
        parts = [path.stem.split("_") for path in paths]
        return standardize(
            pd.DataFrame(
                {
                    "image_id": [path.stem for path in paths],
                    "image_path": [str(path) for path in paths],
                    "label": [part[0] for part in parts],
                    "lesion_id": [part[1] for part in parts],
                }
            ),
            "the clinic's rooms",
        )


    class ByName:
        """Deals each group to the part that its order gives it."""

        def __init__(self, every=5):
            self.every = every

        def split(self, table):
            order = {name: place for place, name in enumerate(sorted(table["group"].unique()))}
            parts = {0: "test", 1: "val"}
            return table.assign(split=[parts.get(order[name] % self.every, "train") for name in table["group"]])


    def network(num_classes, width):
        """Ten lines of torch."""
        return nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, num_classes),
        )


    def smooth(logits, labels, smoothing):
        """A loss is a function of logits and labels."""
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
'''
CONFIGS = {
    "dataset/rooms": "defaults: [base, _self_]\nname: rooms\n_target_: clinic_rooms.read_rooms\nroot: ???  # folder\n",
    "split/by_name": "defaults: [base, _self_]\n_target_: clinic_rooms.ByName\nevery: 5  # one of so many is tested\n",
    "backbone/tiny": "defaults: [base, _self_]\n_target_: clinic_rooms.network\nwidth: 8  # filters\n",
    "loss/smooth": "_target_: clinic_rooms.smooth\nsmoothing: 0.1  # share of each label that the other classes get\n",
}


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    """A folder with the package, its configs and its images; the current one."""
    (tmp_path / "clinic_rooms.py").write_text(textwrap.dedent(PACKAGE))
    for name, text in CONFIGS.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(40):
        label = ("nevus", "melanoma")[number % 2]
        values = rng.integers(0, 120, (40, 40, 3), dtype=np.uint8) + np.uint8(100 * (label == "nevus"))
        Image.fromarray(values).save(tmp_path / "images" / f"{label}_{number:02d}_a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["lesion-exp"])
    yield tmp_path
    sys.modules.pop("clinic_rooms", None)


CHOSEN = (
    "train", "dataset=rooms", "dataset.root=images", "split=by_name", "backbone=tiny", "loss=smooth", "image_size=32",
    "trainer=cpu", "trainer.max_epochs=1", "trainer.precision=32-true", "loader.num_workers=0", "loader.batch_size=8",
    "evaluation.bootstrap_draws=100", "scheduler=constant", "--config-dir", "conf", "--no-tree",
)  # fmt: skip


def test_a_package_of_ones_own_goes_all_the_way(clinic, capsys):
    with restored():
        assert main([*CHOSEN]) == 2
        said = capsys.readouterr().err
        assert "--trust PACKAGE" in said, "nobody's code runs because a config names it"
        assert main([*CHOSEN, "--trust", "clinic_rooms"]) == 0
        run_id = capsys.readouterr().out.splitlines()[-1]
        del os.environ[TRUST_VARIABLE]
        assert main(["predict", f"run={run_id}", "input=images", "output=found.csv"]) == 2
        assert "--trust PACKAGE" in capsys.readouterr().err
        trusted = ["--trust", "clinic_rooms"]
        assert main(["predict", f"run={run_id}", "input=images", "output=found.csv", *trusted]) == 0
        assert main(["evaluate", f"run={run_id}", "--json", *trusted]) == 0
        judged = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = pd.read_csv("found.csv")
    assert len(found) == 40
    assert found["error"].isna().all()
    assert judged["classes"] == ["melanoma", "nevus"]
    assert judged["images"] == 8, "one of five groups"
    [path] = Path("mlruns").glob(f"artifacts/**/{run_id}/artifacts/config/job.yaml")
    job = read_job(path)
    chosen = {group: job.options[group] for group in ("dataset", "split", "backbone", "loss")}
    assert chosen == {"dataset": "rooms", "split": "by_name", "backbone": "tiny", "loss": "smooth"}
    with restored():
        check = ["reproduce", f"run={run_id}", "--check-only", *trusted]
        assert main(check) == 0
        assert "your code" not in capsys.readouterr().out
        path = clinic / "clinic_rooms.py"
        path.write_text(path.read_text().replace("label_smoothing=smoothing", "label_smoothing=2 * smoothing"))
        main(check)
    differing = [line for line in capsys.readouterr().out.splitlines() if "your code" in line]
    assert len(differing) == 1, "the one file that was edited"
    assert "your code clinic_rooms.py: " in differing[0]
    with restored():
        assert main(check[:-2]) == 0
        said = capsys.readouterr().out
        assert "the code of clinic_rooms is not trusted: your code clinic_rooms.py; to compare it, add --trust" in said
        assert "  your code" not in said, "it is not said to have changed"
        predict = ["predict", "input=images", "output=again.csv"]
        for words in (predict, ["evaluate", "tta=flips8"], ["register", "name=a"]):
            _warn_once.cache_clear()
            assert main([*words, f"run={run_id}", *trusted]) == 0
            said = " ".join(capsys.readouterr().err.split())
            told = said.count(f"run {run_id} was trained with another state of your code clinic_rooms: ")
            assert told == (words[0] != "register"), "once; a model that exists is registered without its code"
        _warn_once.cache_clear()
        assert main(["resume", f"run={run_id}", "trainer.max_epochs=2", *trusted]) == 0
        shown = capsys.readouterr()
        assert " ".join(shown.err.split()).count("another state of your code clinic_rooms: ") == 1
        store = open_store(None, clinic)
        first, longer = (find_run(store, name).tags for name in (run_id, shown.out.splitlines()[-1]))
        now = longer["own_code.clinic_rooms"].removeprefix(f"{first['own_code.clinic_rooms']} and ")
        assert len(now) == 16, "of both states"
        store.client.set_terminated(run_id, "KILLED")
        assert main(["resume", f"run={run_id}", *trusted]) == 0
        assert find_run(store, run_id).tags["own_code.clinic_rooms"] == now, "without a checkpoint it began anew"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("name: rooms\n_target_: clinic_rooms.read_rooms\nroot: ???\n", "begin it with defaults: [base, _self_]"),
        ("defaults: [base, _self_]\n_target_: clinic_rooms.read_rooms\nroot: ???\n", "lacks name; give it name"),
    ],
)
def test_a_data_set_whose_config_lacks_keys_is_told_what_to_add(clinic, capsys, config, says):
    (clinic / "conf" / "dataset" / "rooms.yaml").write_text(config)
    with restored():
        assert main([*CHOSEN, "--trust", "clinic_rooms"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "expected dataset/rooms.yaml to have the keys" in said
    assert says in said


def test_a_reader_that_gives_no_standard_table_is_told_what_makes_one(clinic, capsys):
    path = clinic / "clinic_rooms.py"
    path.write_text(path.read_text().replace("return standardize(", "return (lambda table, name: table)("))
    with restored():
        assert main([*CHOSEN, "--trust", "clinic_rooms"]) == 2
    assert "lesion_exp.dataset.table.standardize" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("words", [("prepare",), ("train", "-m", "seed=1,2"), ("leakage",)])
def test_an_untrusted_package_is_refused_at_once_with_the_command_to_type(clinic, capsys, words):
    own = ["dataset=rooms", "dataset.root=nowhere", "backbone=tiny", "loss=smooth", "--config-dir", "conf"]
    with restored():
        assert main([*words, *own]) == 2
    message, command = capsys.readouterr().err.splitlines()
    assert "clinic_rooms.read_rooms" in message
    assert "did you mean" not in message
    assert "such as dataset=" not in message
    assert shlex.split(command) == ["type:", "lesion-exp", *words, *own, "--trust", "clinic_rooms"]


def test_the_command_to_type_names_every_package_and_works(clinic, capsys):
    (clinic / "clinic_splits.py").write_text(
        "from clinic_rooms import ByName as Imported\n\n\nclass ByName(Imported):\n    pass\n"
    )
    path = clinic / "conf" / "split" / "by_name.yaml"
    path.write_text(path.read_text().replace("clinic_rooms", "clinic_splits"))
    with restored():
        assert main(["prepare", "dataset=rooms", "dataset.root=images", "split=by_name", "--config-dir", "conf"]) == 2
        command = shlex.split(capsys.readouterr().err.splitlines()[-1])
        assert command[-4:] == ["--trust", "clinic_rooms", "--trust", "clinic_splits"]
        assert main(command[2:]) == 0
    sys.modules.pop("clinic_splits", None)


def test_libraries_are_never_proposed_for_trust(clinic, capsys):
    (clinic / "conf" / "loss" / "smooth.yaml").write_text("_target_: torch.hub.load\n")
    with restored():
        assert main(["prepare", "loss=smooth", "--config-dir", "conf"]) == 2
    said = capsys.readouterr().err
    assert "--trust torch" not in said
    assert "type: " not in said

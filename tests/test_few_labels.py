import importlib
import sys
from pathlib import Path

import pytest

import lesion_exp
from tests.tiny import TINY

SCRIPTS = Path(__file__).parents[1] / "scripts"
DATA = ("dataset=synthetic", "dataset.num_lesions=90", "dataset.image_height=48", "dataset.image_width=64")
SMALL = ("backbone=small_cnn", "image_size=32", "trainer=cpu", "loader.num_workers=0", "print_config=false")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("results", "few_labels"):
        sys.modules.pop(name, None)
    return importlib.import_module("few_labels")


def test_every_cell_is_a_job_of_its_own(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from results import job_hash

    words = [
        script.overrides(start, share, "0" * 32, tmp_path) for start in ("none", "imagenet") for share in script.EPOCHS
    ]
    assert len({job_hash(each) for each in words}) == len(words)
    assert f"backbone.weights=run:{'0' * 32}" in script.overrides("pretrained", 0.1, "0" * 32, tmp_path)
    assert job_hash([*script.PRETRAINING, f"dataset.root={tmp_path}"])


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_page_has_a_row_for_each_share_and_start(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        script, "PRETRAINING", ("experiment=pretrain", *DATA, *SMALL, "loader.batch_size=16", "trainer.max_epochs=1")
    )
    monkeypatch.setattr(script, "RECIPE", (*TINY, "backbone=small_cnn"))
    monkeypatch.setattr(script, "EPOCHS", {0.5: (2, 2), 1.0: (1, 1)})
    monkeypatch.setattr(script, "STARTS", {"none": "random weights", "pretrained": "pretrained without labels"})
    trained = []
    monkeypatch.setattr(script, "train", lambda overrides: trained.append(lesion_exp.run(*overrides).run_id))
    (tmp_path / "data").mkdir()
    page = tmp_path / "results.md"
    page.write_text(f"before\n{''.join(script.MARKS)}after\n")
    words = [f"root={tmp_path / 'data'}", "--output", str(page)]

    with pytest.raises(SystemExit, match="2"):
        script.main([*words, "--table"])
    assert "finished pretraining" in capsys.readouterr().err
    script.main(words)
    script.main(words)
    assert len(trained) == 5, "finished runs are not trained again"

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    lines = [line for line in text.splitlines() if line.startswith(("| 50%", "| 100%"))]
    assert [line.split(" | ")[1] for line in lines] == ["random weights", "pretrained without labels"] * 2
    for run in map(lesion_exp.open_run, trained[1:]):
        low, value, high = (run.metrics[f"test/balanced_accuracy{end}"] for end in ("_low", "", "_high"))
        assert any(f"{value:.3f} ({low:.3f} to {high:.3f})" in line for line in lines)
    assert (tmp_path / "pictures" / "few_labels.png").stat().st_size > 10_000

import pytest

from lesion_exp.command import predict as command
from lesion_exp.command.arguments import Arguments
from lesion_exp.command.predict import _data_set
from lesion_exp.command.verbs import VERBS
from lesion_exp.verbs.predict import further_files, predict
from tests.refusal import assert_refused

GIVEN = ["run=latest", "input=x", "output=x.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "run="),
        (["run=latest"], "input="),
        (["run=latest", "input=x"], "output="),
        ([*GIVEN, "seed=1"], "seed=1"),
        ([*GIVEN, "top=0"], "at least 1"),
        ([*GIVEN, "top=many"], "whole number"),
        ([*GIVEN, "count=3"], "rank="),
        ([*GIVEN, "force=yes"], "true or false"),
        ([*GIVEN, "checkpoint=first"], "best or last"),
        ([*GIVEN, "columns=[a]"], "columns="),
        ([*GIVEN, "columns={a: 1"], "columns="),
        ([*GIVEN, "trainer.devices=two"], "trainer.devices"),
        ([*GIVEN, "trainer.devices=0"], "trainer.devices"),
        ([*GIVEN, "trainer.accelerator=tpu"], "auto, cpu, gpu, cuda or mps"),
        ([*GIVEN, "trainer.precision=8"], "32-true"),
        ([*GIVEN, "loader.num_workers=-1"], "whole number"),
        (["run=latest", "input=x", "output=x.xlsx"], ".parquet"),
        (["run=latest", "input=x", "output=."], "output"),
        (["run=latest", "input=.", "output=x.csv", "gradcam=maps"], "outside of input=."),
        ([*GIVEN, "threshold=0.9"], "pseudo_labels=FILE beside threshold="),
        ([*GIVEN, "target_precision=0.9"], "pseudo_labels=FILE beside target_precision="),
        ([*GIVEN, "pseudo_labels=p.csv", "threshold=1.5"], "a number above 0 and up to 1"),
        ([*GIVEN, "pseudo_labels=p.csv", "threshold={mel: 2}"], "a number above 0 and up to 1"),
        ([*GIVEN, "pseudo_labels=p.csv", "target_precision=0"], "target_precision"),
        ([*GIVEN, "pseudo_labels=p.csv", "threshold=0.9", "target_precision=0.9"], "got both"),
        ([*GIVEN, "pseudo_labels=p.xlsx"], ".parquet"),
        ([*GIVEN, "thresholds=0.3"], "for each class, such as {mel: 0.3}"),
        ([*GIVEN, "thresholds={mel: 2}"], "a number above 0 and up to 1"),
        ([*GIVEN, "thresholds={mel: sensitive}"], "sensitivity_90"),
        ([*GIVEN, "thresholds={mel: 0.3}", "pseudo_labels=p.csv"], "got both"),
        ([*GIVEN, "output_features=f.txt"], ".npz or .parquet"),
        (["run=~no_such_user/best.ckpt", "input=x", "output=x.csv"], "in place of ~NAME"),
        (["run=latest", "output=x.csv"], "input=, or dataset=NAME"),
        ([*GIVEN, "dataset=synthetic"], "got input= beside dataset="),
        (["run=latest", "output=x.csv", "dataset.root=x"], "dataset=NAME beside dataset.root=x"),
        (["run=latest", "output=x.csv", "dataset=synthetic", "dataset.mask=crop"], "as it did in training"),
        (["run=latest", "output=x.csv", "dataset=synthetic", "columns={age: years}"], "got columns= beside dataset="),
        (["run=latest", "output=x.csv", "dataset=synthetic", "seed=1"], "seed=1"),
    ],
)
def test_a_mistake_is_one_message_and_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, ["predict", *arguments], said)


def test_generated_data_are_drawn_into_the_folder_of_the_project(tmp_path):
    words = ["dataset=synthetic", f"paths.root={tmp_path}", "dataset.num_lesions=30"]
    arguments = Arguments(words, VERBS["predict"].own_keys, from_python=True)
    node = _data_set(arguments)
    assert (node["root"], node["num_lesions"]) == (f"{tmp_path}/data_cache/synthetic", 30)
    assert arguments.overrides == [f"paths.root={tmp_path}"]


@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize(("words", "view"), [([], None), (["dataset.view=clinical"], "clinical")])
def test_the_photographs_of_a_data_set_can_be_named(words, view, store, monkeypatch):
    store.client.create_run(store.experiment_id("tests"))
    monkeypatch.chdir(store.root)
    monkeypatch.setattr(command, "chosen_run", lambda *_: None)
    monkeypatch.setattr(further_files, "check_first", lambda *_: None)
    monkeypatch.setattr(predict, "predict", lambda _, request, __: request)
    given = ["run=latest", "output=o.csv", "dataset=synthetic", *words]
    arguments = Arguments(given, VERBS["predict"].own_keys, from_python=True)
    assert command.predicted(arguments).view == view

"""An evaluation on another data set shows the photographs that the run saw, or those that the command names."""

from types import SimpleNamespace

import pytest

from lesion_exp.cli import main
from lesion_exp.command import evaluate as command
from lesion_exp.errors import ConfigError, MissingPicturesError
from lesion_exp.verbs.evaluate import evaluate, evaluated_runs
from lesion_exp.verbs.evaluate.evaluated_runs import predictions_elsewhere
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from lesion_exp.verbs.evaluate.run_evaluation import name_and_title


def node_of(name, view="dermoscopic"):
    target = f"lesion_exp.dataset.{name}.read_{name}"
    return {"name": name, "_target_": target, "view": view, "mask": "none", "mask_margin": 0.1, "store_size": "auto"}


def request_of(dataset, view=None):
    return EvaluationRequest("test", {"calibration": "none"}, dataset=dataset, view=view)


def shown(monkeypatch, own, dataset, view=None):
    """The `dataset.view` with which the data set is loaded."""
    views = []

    def load(config):
        views.append(config["dataset"]["view"])
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluated_runs, "load_data", load)
    trained = SimpleNamespace(run=None, job_config=lambda _: {"dataset": own})
    with pytest.raises(KeyboardInterrupt):
        predictions_elsewhere(trained, request_of(dataset, view))
    return views[0]


def test_a_network_of_clinical_photographs_is_tested_on_clinical_ones(monkeypatch):
    assert shown(monkeypatch, node_of("pad_ufes_20"), node_of("milk10k")) == "clinical"
    assert shown(monkeypatch, node_of("milk10k", "clinical"), node_of("pad_ufes_20")) == "clinical"
    assert shown(monkeypatch, node_of("pad_ufes_20"), node_of("milk10k"), "dermoscopic") == "dermoscopic"


def test_what_the_network_reads_and_the_data_lack_is_said(monkeypatch):
    def load(_):
        raise MissingPicturesError("expected masks, got none", "; set dataset.mask=none")

    monkeypatch.setattr(evaluated_runs, "load_data", load)
    trained = SimpleNamespace(run=None, job_config=lambda _: {"dataset": node_of("ham10000")})
    with pytest.raises(ConfigError, match=r"^expected masks, got none\. The network reads .* or another run$"):
        predictions_elsewhere(trained, request_of(node_of("ddi")))


def test_a_view_that_was_named_is_in_the_name_of_the_evaluation():
    assert name_and_title(request_of(node_of("milk10k")), 5)[0] == "milk10k"
    named = name_and_title(request_of(node_of("milk10k"), "clinical"), 5)
    assert named == ("milk10k-clinical", "milk10k, clinical view, 5 images")


@pytest.mark.usefixtures("own_process")
@pytest.mark.parametrize(("words", "view"), [([], None), (["dataset.view=clinical"], "clinical")])
def test_the_command_takes_a_view(monkeypatch, store, words, view):
    requests = []
    store.client.create_run(store.experiment_id("tests"))
    monkeypatch.chdir(store.root)
    monkeypatch.setattr(command, "_runs", lambda *_: [])
    monkeypatch.setattr(command, "show_evaluation", lambda *_, **__: None)
    made = SimpleNamespace(run_id="r", name="n")
    monkeypatch.setattr(evaluate, "evaluate", lambda _, request, __: requests.append(request) or made)
    assert main(["evaluate", "run=latest", "dataset=synthetic", *words]) == 0
    assert [request.view for request in requests] == [view]

"""Metrics that a config adds: what may be added, that every epoch and the test part have them, and who reads them."""

import copy
import json
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCohenKappa

from lesion_exp.config.compatibility import check_complete
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze, job_hash, read_job
from lesion_exp.config.registered import TRUST_VARIABLE, check_registered
from lesion_exp.config.shipped_conf import conf_dir, option_names
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.predictions import probabilities, true_classes
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact, read_history, read_predictions
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.training.added_metrics import (
    added_scores,
    added_to_any,
    check_added_metrics,
    make_added_metrics,
    mode_of_added,
    try_added_metrics,
)
from lesion_exp.training.run import check_job, train
from lesion_exp.training.watched_metrics import check_watched, watched_by
from lesion_exp.verbs.report.page import render
from lesion_exp.verbs.report.run_report import run_page
from tests.pictures import without_pictures
from tests.tiny import TINY

KAPPA = "+metrics.kappa={_target_: torchmetrics.classification.MulticlassCohenKappa}"
HINGE = "+metrics.hinge={_target_: torchmetrics.classification.MulticlassHingeLoss}"
SPECIFICITY = "+metrics.spec={_target_: torchmetrics.classification.MulticlassSpecificity}"
WATCHES_KAPPA = (
    "scheduler=plateau", "scheduler.monitor=val/kappa", "scheduler.mode=max",
    "trainer.early_stopping.patience=5", "trainer.early_stopping.monitor=val/kappa",
)  # fmt: skip


@pytest.fixture
def config(tmp_path):
    return lambda *overrides: compose([*TINY, *overrides], root=tmp_path).config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with kappa and a loss of torchmetrics, and its job."""
    job = freeze(compose([*TINY, KAPPA, HINGE, *WATCHES_KAPPA, "test=true"], root=tmp_path_factory.mktemp("project")))
    with without_pictures():
        result = train(job)
    return find_run(job.project.store, result.run_id), job, result


@pytest.mark.slow
def test_an_added_metric_is_logged_each_epoch_and_for_the_test_part(run):
    found, _, result = run
    history = read_history(found)
    for name in ("kappa", "hinge"):
        assert [point.step for point in history[f"val/{name}"]] == [point.step for point in history["val/loss"]]
        assert f"test/{name}" in found.metrics
        assert f"best/val/{name}" in found.metrics
    table = read_predictions(found, "test")
    alone = MulticlassCohenKappa(num_classes=probabilities(table).shape[1])
    alone.update(torch.tensor(probabilities(table)), torch.tensor(true_classes(table)))
    assert (
        found.metrics["test/kappa"] == result.metrics["test/kappa"] == pytest.approx(float(alone.compute()), abs=1e-6)
    )


@pytest.mark.slow
def test_an_added_metric_is_reported(run):
    found, job, _ = run
    kept = json.loads(download_artifact(found, "evaluation/test/metrics.json").read_text())
    ends = [found.metrics[f"test/kappa{end}"] for end in ("_low", "_high")]
    value = found.metrics["test/kappa"]
    assert ends[0] < value < ends[1]
    assert kept["kappa"] == pytest.approx({"value": value, "low": ends[0], "high": ends[1]})
    assert "test/hinge_low" in found.metrics
    assert f"kappa {found.metrics['test/kappa']:.3f}" in found.tags["mlflow.note.content"]
    shown = repr(trained_run(found, job.project))
    assert f"test/kappa {found.metrics['test/kappa']:.3f}" in shown
    text = download_artifact(found, "classification_report/test.txt").read_text("utf-8")
    assert f"\nkappa {' ' * 20} {value:.3f}   95% interval {ends[0]:.3f} to {ends[1]:.3f}\n" in text
    page = render(run_page(found))
    assert "kappa by epoch" in page
    assert "hinge by epoch" in page


@pytest.mark.slow
def test_the_best_run_by_an_added_metric_is_the_lowest_of_a_loss(run, tmp_path):
    found = run[0]
    assert json.loads(found.tags["metric_modes"]) == {"kappa": "max", "hinge": "min"}
    store = found.store
    for name in ("kappa", "hinge"):
        value = found.metrics[f"best/val/{name}"]
        other = store.client.create_run(found.experiment_id, tags={**found.tags, "kind": "train"}).info.run_id
        store.client.log_metric(other, f"best/val/{name}", value + 0.1)
        store.client.set_terminated(other)
        assert find_run(store, f"best:val/{name}").run_id == (other if name == "kappa" else found.run_id)
        store.client.set_tag(other, "metric_modes", json.dumps({name: None}))
        with pytest.raises(ConfigError, match="the runs disagree"):
            find_run(store, f"best:val/{name}")
        store.client.delete_run(other)


def test_num_classes_is_given_and_other_keys_reach_the_class(config):
    made = make_added_metrics(config(KAPPA, "metrics.kappa.weights=quadratic"), 5)
    assert (made["kappa"].num_classes, made["kappa"].weights) == (5, "quadratic")


def test_the_shipped_options_can_be_used(config):
    assert config()["metrics"] == {}
    for name in option_names("metrics", [conf_dir()]):
        chosen = config(f"metrics={name}")
        check_added_metrics(chosen)
        try_added_metrics(chosen, 3)
    agreement = config("metrics=agreement")
    assert set(agreement["metrics"]) == {"kappa", "mcc"}
    assert set(config("metrics=agreement", "~metrics.mcc")["metrics"]) == {"kappa"}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (KAPPA.replace("kappa=", "accuracy="), "a name that no other metric has, got metrics.accuracy"),
        (KAPPA.replace("kappa=", "loss="), "choose another, such as metrics.my_loss"),
        (KAPPA.replace("kappa=", "update="), "a name that no other metric has"),
        (KAPPA.replace("kappa=", "k_low="), "without _low or _high"),
        ("+metrics.kappa=1", r"expected a metric in metrics\.kappa, for example \+metrics\.kappa="),
        ("+metrics.kappa={weights: linear}", "expected a metric in metrics.kappa"),
        (KAPPA.replace("}", ", weigths: linear}"), "did you mean 'weights'"),
        (KAPPA.replace("}", ", sync_on_compute: false}"), "expected a parameter of torchmetrics"),
    ],
)
def test_what_cannot_be_added_is_refused_before_the_data_are_read(config, override, says):
    with pytest.raises(ConfigError, match=says):
        check_added_metrics(config(override))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (KAPPA.replace("}", ", num_classes: 9}"), "without num_classes, which the job computes from the data"),
        (KAPPA.replace("}", ", weights: cubic}"), "expected values that torchmetrics.*MulticlassCohenKappa accepts"),
        (
            "+metrics.each={_target_: torchmetrics.classification.MulticlassRecall, average: none}",
            r"gives one number, but .* gives a tensor of shape \(3,\); set metrics.each.average=macro",
        ),
    ],
)
def test_values_are_tried_before_a_run_is_opened(config, override, says):
    with pytest.raises(ConfigError, match=says):
        try_added_metrics(config(override), 3)


@pytest.mark.parametrize(
    "target",
    ["torchmetrics.classification.MulticlassROC", "torchmetrics.classification.BinaryAUROC", "torchmetrics.MeanMetric",
     "torchmetrics.wrappers.BootStrapper", "torch.nn.CrossEntropyLoss", "os.system", "my_package.Kappa"],
)  # fmt: skip
def test_only_listed_classes_can_be_added(config, target):
    with pytest.raises(ConfigError, match=r"a registered option of metrics, got .* in metrics\.mine\._target_"):
        check_registered(config(f"+metrics.mine={{_target_: {target}}}"))


@pytest.mark.parametrize("place", ["loss", "split", "metrics", "metrics.kappa.inner"])
def test_a_metric_can_stand_nowhere_else(config, place):
    planted = copy.deepcopy(config(KAPPA))
    *parents, leaf = place.split(".")
    inner = planted
    for parent in parents:
        inner = inner[parent]
    inner[leaf] = {"_target_": "torchmetrics.classification.MulticlassCohenKappa"}
    with pytest.raises(ConfigError, match="_target_"):
        check_registered(planted)


class Surprise(Metric):
    """A metric of one's own, of which lower values are better."""

    higher_is_better = False
    full_state_update = False

    def __init__(self, num_classes, factor=1.0):
        super().__init__()
        self.num_classes, self.factor = num_classes, factor
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, preds, target):
        self.total += self.factor * (1 - preds[torch.arange(len(target)), target]).sum()

    def compute(self):
        return self.total


@pytest.fixture
def own_package(monkeypatch):
    module = ModuleType("metrics_of_the_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Surprise, "__module__", module.__name__)
    module.Surprise = Surprise
    module.nothing = lambda: None
    module.nothing.__module__ = module.__name__
    monkeypatch.setenv(TRUST_VARIABLE, module.__name__)


@pytest.mark.usefixtures("own_package")
def test_a_metric_of_a_trusted_package_can_be_added(config):
    found = config("+metrics.surprise={_target_: metrics_of_the_test.Surprise, factor: 2.0}")
    check_registered(found)
    check_added_metrics(found)
    try_added_metrics(found, 3)
    assert mode_of_added(found, "surprise") == "min"
    with pytest.raises(ConfigError, match=r"expected a class derived from torchmetrics\.Metric"):
        check_added_metrics(config("+metrics.nothing={_target_: metrics_of_the_test.nothing}"))


def test_what_is_watched_is_known_by_its_class(config):
    check_watched(config(KAPPA, *WATCHES_KAPPA))
    with pytest.raises(ConfigError, match=r"set scheduler\.mode=max"):
        check_watched(config(KAPPA, "scheduler=plateau", "scheduler.monitor=val/kappa", "scheduler.mode=min"))
    for added, name, mode in ((KAPPA, "val/kappa", "max"), (HINGE, "val/hinge", "min")):
        by_scheduler = config(added, "scheduler=plateau", f"scheduler.monitor={name}")
        check_watched(by_scheduler)
        assert by_scheduler["scheduler"]["mode"] == mode
        by_all = config(added, "scheduler=plateau", f"trainer.monitor={name}", "trainer.early_stopping.patience=2")
        check_watched(by_all)
        stopping, schedule = by_all["trainer"]["early_stopping"], by_all["scheduler"]
        assert [(node["monitor"], node["mode"]) for node in (stopping, schedule)] == [(name, mode)] * 2
        assert watched_by(by_all) == (name, mode)
    with pytest.raises(ConfigError, match=r"trainer\.monitor whose class.*does not set higher_is_better"):
        check_watched(config(SPECIFICITY, "trainer.monitor=val/spec"))
    with pytest.raises(ConfigError, match=r"val/kappa.*got 'val/kapa'; did you mean 'val/kappa'"):
        check_watched(config(KAPPA, "scheduler=plateau", "scheduler.monitor=val/kapa"))
    with pytest.raises(ConfigError, match=r"expected scheduler\.monitor to be a metric of an epoch.*\+metrics\.kappa="):
        check_watched(config("scheduler=plateau", "scheduler.monitor=val/kappa", "scheduler.mode=max"))
    with pytest.raises(ConfigError, match="class does not set higher_is_better"):
        check_watched(config(SPECIFICITY, "scheduler=plateau", "scheduler.monitor=val/spec", "scheduler.mode=max"))


def test_a_search_may_look_at_an_added_metric(tmp_path):
    def plan(*overrides):
        return plan_sweep([*TINY, "seed=1,2", *overrides], root=tmp_path)

    assert plan(KAPPA, "search.metric=val/kappa").facts.search["metric"] == "val/kappa"
    with pytest.raises(ConfigError, match=r"set search\.direction=minimize"):
        plan(HINGE, "search.metric=val/hinge")
    with pytest.raises(ConfigError, match=r"expected search\.metric to be a metric of an epoch"):
        plan("search.metric=val/kappa")
    with pytest.raises(ConfigError, match=r"expected search\.metric to be a metric of an epoch"):
        plan("metrics=agreement,default", "search.metric=val/mcc")


def test_a_job_of_before_still_loads_with_its_hash(config, tmp_path):
    job = freeze(compose([*TINY], root=tmp_path))
    job.write(tmp_path / "job.yaml")
    body = yaml.safe_load((tmp_path / "job.yaml").read_text())
    del body["config"]["metrics"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    old = read_job(tmp_path / "old.yaml")
    assert (old.job_hash, old.config) == (job.job_hash, job.config)
    check_complete(old.config)
    check_job(old)
    assert job_hash(config(KAPPA), {}) != job_hash(config(), {}), "a run with the metric is another one"


def test_the_functions_of_added_metrics_forget_and_are_undefined_where_their_class_fails(config, caplog, monkeypatch):
    made = config("metrics=agreement")
    table = pd.DataFrame({f"p_{name}": [0.2] for name in "abc"})
    scores = added_scores(made, table)
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    true = np.arange(40) % 3
    first = scores["kappa"](probs, true)
    assert scores["kappa"](np.eye(3)[true], true) == pytest.approx(1)
    assert scores["kappa"](probs, true) == first
    monkeypatch.setattr(MulticlassCohenKappa, "compute", lambda self: torch.ones(2).item())
    broken = added_scores(made, table)["kappa"]
    assert all(np.isnan(broken(probs, true)) for _ in range(2))
    assert [record.getMessage()[:26] for record in caplog.records] == ["metrics.kappa is undefined"]


def test_jobs_are_compared_in_the_metrics_that_any_of_them_adds(config):
    kappa, other = config(KAPPA, HINGE), config(KAPPA.replace("}", ", weights: linear}"), SPECIFICITY)
    found, notes = added_to_any([kappa, config(), {"metrics": "{}"}], 3)
    assert {name: higher for name, (_, higher) in found.items()} == {"kappa": True, "hinge": False}
    assert notes == []
    found, notes = added_to_any([kappa, other], 3)
    assert {name: higher for name, (_, higher) in found.items()} == {"hinge": False, "spec": None}
    assert notes[0] == "metrics.kappa is left out: it is not the same metric in all jobs"
    assert notes[1].startswith("metrics.spec: its class does not say which values are better")


def test_a_metric_of_a_package_that_is_not_trusted_is_left_out_of_a_comparison():
    found, notes = added_to_any([{"metrics": {"own": {"_target_": "my_package.Own"}}}], 3)
    assert found == {}
    assert notes[0].startswith("metrics.own is left out: expected")
    assert "--trust PACKAGE" in notes[0]


def test_a_run_that_adds_none_imports_nothing_for_it():
    assert added_scores({"metrics": {}}, pd.DataFrame()) == {}
    assert added_scores(None, pd.DataFrame()) == {}
    assert added_scores({}, pd.DataFrame()) == {}

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.instantiate import resolve_target
from lesion_exp.config.own_code import code_digests, code_tags
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.config.shipped_conf import conf_dir, option_names
from lesion_exp.errors import ConfigError
from lesion_exp.model.checkpoint_file import read_checkpoint, state_hash, weights_hash
from lesion_exp.scheduler.schedule import TrainingLength
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.trained_runs.finished_run import FOLLOWS_LENGTH, check_unfinished
from lesion_exp.training.build import build
from lesion_exp.training.check_training import training_length
from lesion_exp.training.checkpoint import LAST, best_file_name, copy_best_checkpoint
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from lesion_exp.training.trainer import build_trainer
from lesion_exp.verbs.resume import (
    EXTENDS_TAG,
    Trained,
    _check_devices,
    _context,
    _loss_differs,
    _schedule_differs,
    extend,
    reason_against,
    resume,
    with_found_values,
    with_length,
)
from tests.tiny import TINY

pytestmark = pytest.mark.usefixtures("no_pictures")
QUIET = ("test=false", "tracking.log_images=false", "tracking.log_model=false")
SHORT = ("trainer.max_epochs=2", "loader.batch_size=16", *QUIET)

TAUGHT = ("loss=distill", f"loss.teacher={'0' * 32}", f"loss.teacher_weights={'0' * 16}")
PROBED = ("pretrain=simclr", "pretrain.probe_every=2", "scheduler=constant", "trainer.max_epochs=5")


@pytest.fixture
def reason(tiny_job):
    """Why a run that overrides make cannot go on to a length as if that had been asked for from the start."""

    def find(*overrides, pruned=False, steps=10, epochs=2, ended=True, **changes):
        old = tiny_job(*SHORT, *overrides)
        new = with_length(old, {f"trainer.{key}": value for key, value in changes.items()})
        split = split_data(old.config, load_data(old.config))
        lengths = training_length(old.config, split), training_length(new.config, split)
        trained = Trained("last.ckpt", None, steps, epochs, ended)
        return reason_against(old, new, split, lengths, trained, pruned=pruned)

    return find


@pytest.mark.parametrize(
    ("overrides", "settings", "says"),
    [
        (("scheduler=constant", "scheduler.warmup_epochs=1"), {"max_epochs": 6}, None),
        (("scheduler=step", "scheduler.drop_epochs=1"), {"max_epochs": 6}, None),
        (("scheduler=plateau",), {"max_epochs": 6}, None),
        (
            ("scheduler=cosine",),
            {"max_epochs": 6},
            "scheduler=cosine depends on the length of the training, so that its 10 ",
        ),
        (("scheduler=one_cycle",), {"max_epochs": 6}, "scheduler=one_cycle depends on"),
        (("scheduler=cosine",), {"max_epochs": 6, "steps": 4, "epochs": 0, "ended": False}, None),  # in its warm-up
        (("scheduler=constant",), {"max_epochs": 2}, "would not become longer"),
        (("scheduler=constant",), {"max_epochs": 1}, "now, 1 epoch with it (limited by trainer.max_epochs=1)"),
        (
            ("scheduler=constant", "trainer.max_steps=10"),
            {"max_epochs": 6},
            "limited by trainer.max_epochs=6 and trainer.max_steps=10)",
        ),
        (("scheduler=constant", "trainer.max_steps=10"), {"max_epochs": 6, "max_steps": 20}, None),
        (("scheduler=constant", "trainer.max_time=00:01:00:00"), {"max_epochs": 6}, "the time cannot be extended"),
        (("scheduler=constant", "loss=ldam"), {"max_epochs": 6}, None),  # the first two epochs of both are alike
        (
            ("scheduler=constant", "loss=ldam", "trainer.max_epochs=5"),
            {"max_epochs": 10, "steps": 25, "epochs": 5},
            "loss=ldam changes after a share of the epochs",
        ),
        (("scheduler=constant", "loss=ldam", "loss.defer_epoch=1"), {"max_epochs": 6}, None),
        (
            ("scheduler=constant", *TAUGHT, "loss@loss.labels=ldam", "trainer.max_epochs=5"),
            {"max_epochs": 10, "steps": 25, "epochs": 5},
            "loss=distill changes after a share of the epochs",
        ),
        (PROBED, {"max_epochs": 10, "steps": 25, "epochs": 5}, "its last epoch, 5, was probed"),
        (PROBED, {"max_epochs": 10, "steps": 15, "epochs": 3, "ended": False}, None),  # it was stopped before
        (
            ("scheduler=constant", "trainer.early_stopping.patience=1", "trainer.max_epochs=5"),
            {"max_epochs": 6},
            "early stopping ended it after epoch 2",
        ),
        (
            ("scheduler=constant", "trainer.early_stopping.patience=1", "trainer.max_epochs=5"),
            {"max_epochs": 6, "pruned": True},
            None,
        ),
    ],
)
def test_a_training_goes_on_where_the_longer_one_would_have_begun_so(reason, overrides, settings, says):
    found = reason(*overrides, **settings)
    assert found is None if says is None else says in found


def test_what_finders_found_is_trained_with(tiny_job):
    job = tiny_job("trainer.find_lr=true", "trainer.find_batch_size=true")

    class Found:
        params = {"found.lr": "0.0123", "found.batch_size": "64.0"}  # noqa: RUF012

    found = with_found_values(job, Found())
    assert (found.config["optimizer"]["lr"], found.config["loader"]["batch_size"]) == (0.0123, 64)
    assert not found.config["trainer"]["find_lr"]
    assert found.overrides[-2:] == ("trainer.find_lr=false", "optimizer.lr=0.0123")
    longer = with_length(found, {"trainer.max_epochs": 9})
    assert longer.job_hash != with_length(found, {"trainer.max_epochs": 8}).job_hash
    assert job.config["optimizer"]["lr"] != 0.0123


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Trains what overrides describe, without a run; returns the folder of its checkpoints."""
    root = tmp_path_factory.mktemp("extended")
    plain = compose(TINY, root=root).config
    split = split_data(plain, load_data(plain))

    def fit(name, *overrides, checkpoint=None):
        config = compose([*TINY, *SHORT, *overrides], root=root).config
        made = build(config, split)
        trainer = build_trainer(config["trainer"], False, root / name, [])
        trainer.fit(made.classifier, datamodule=made.datamodule, ckpt_path=checkpoint, weights_only=True)
        return root / name

    return fit


@pytest.mark.parametrize(
    "options",
    [
        ("scheduler=step", "scheduler.drop_epochs=1", "scheduler.gamma=0.5", "trainer.ema_decay=0.9"),
        ("scheduler=plateau", "scheduler.patience=0", "optimizer=sgd", "trainer.accumulate_grad_batches=2"),
        ("scheduler=constant", "augmentation=standard", "backbone.dropout=0.2", "trainer.check_val_every_n_epoch=2"),
    ],
)
def test_a_training_that_goes_on_after_its_end_has_the_weights_of_the_longer_one(fitted, options):
    kind = options[0]
    half = fitted(f"{kind} half", *options)
    best = half / str(best_file_name(read_checkpoint(half / LAST)))
    copy_best_checkpoint(best, half / LAST, half.with_name(f"{kind} longer"))
    longer = fitted(f"{kind} longer", *options, "trainer.max_epochs=4", checkpoint=half / LAST)
    whole = fitted(f"{kind} whole", *options, "trainer.max_epochs=4")
    assert weights_hash(longer / LAST) == weights_hash(whole / LAST) != weights_hash(half / LAST)
    ends = [read_checkpoint(folder / LAST) for folder in (longer, whole)]
    assert ends[0]["global_step"] == ends[1]["global_step"]
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]
    assert best_file_name(ends[0]) == best_file_name(ends[1])
    assert weights_hash(longer / str(best_file_name(ends[0]))) == weights_hash(whole / str(best_file_name(ends[1])))
    if "current_model_state" in ends[0]:
        assert len({state_hash(end["current_model_state"]) for end in ends}) == 1
        assert state_hash(ends[0]["current_model_state"]) != weights_hash(longer / LAST)


def hashes(job, run_id):
    run = find_run(job.project.store, run_id)
    return [weights_hash(download_artifact(run, f"checkpoints/{name}.ckpt")) for name in ("best", "last")], {
        name: value for name, value in run.metrics.items() if name.startswith("best/")
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("scheduler=step", "scheduler.drop_epochs=1", "scheduler.gamma=0.5", "trainer.ema_decay=0.9"),
        pytest.param(
            ("scheduler=plateau", "scheduler.patience=0", "optimizer=sgd", "trainer.accumulate_grad_batches=2"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_finished_run_that_is_trained_longer_ends_like_one_that_was_asked_for_it(tiny_job, options):
    job = tiny_job(*SHORT, *options)
    first = find_run(job.project.store, train(job).run_id)
    longer = extend(first, {"trainer.max_epochs": 4}, job.project).run_id
    run = find_run(first.store, longer)
    assert longer != first.run_id
    assert run.status == "FINISHED"
    assert run.tags[EXTENDS_TAG] == first.run_id
    assert find_run(first.store, first.run_id).status == "FINISHED"
    whole = tiny_job(*SHORT, *options, "trainer.max_epochs=4")
    assert run.tags["job_hash"] == whole.job_hash
    assert hashes(job, longer) == hashes(whole, train(whole).run_id)


@pytest.mark.slow
def test_what_cannot_go_on_says_how_to_train_it_from_the_start(tiny_job):
    job = tiny_job(*SHORT, "scheduler=cosine")
    run = find_run(job.project.store, train(job).run_id)
    with pytest.raises(ConfigError, match=r"scheduler=cosine depends .*lesion-exp train .*trainer\.max_epochs=6$"):
        extend(run, {"trainer.max_epochs": 6}, job.project)
    said = r"\n  lesion-exp reproduce .*\n.*because scheduler=cosine.*:\n  lesion-exp train .*trainer\.max_epochs=N$"
    with pytest.raises(ConfigError, match=said) as refused:
        resume(run, job.project)
    assert str(refused.value).count("trainer.max_epochs=") == 1, "the new number takes the place of the old one"
    with pytest.raises(ConfigError, match="RUNNING"):
        extend(replace(run, status="RUNNING"), {"trainer.max_epochs": 6}, job.project)


def test_the_answer_without_torch_knows_which_shipped_schedules_follow_the_length(tmp_path):
    lengths = (TrainingLength(10, max_epochs=2), TrainingLength(10, max_epochs=4))
    for option in option_names("scheduler", [conf_dir()]):
        job = freeze(compose([f"scheduler={option}"], root=tmp_path))
        follows = _schedule_differs(job, job, lengths, int(lengths[0].total_steps)) is not None
        assert (job.config["scheduler"]["_target_"] in FOLLOWS_LENGTH) == follows, option
    for target in FOLLOWS_LENGTH:
        assert callable(resolve_target(target, target.split(".")[1]))


def test_a_finished_run_whose_schedule_does_not_follow_the_length_can_be_extended():
    params = {"scheduler._target_": "lesion_exp.scheduler.step.step"}
    run = SimpleNamespace(run_id="a" * 32, status="FINISHED", tags={"kind": "train"}, params=params)
    with pytest.raises(ConfigError, match=r"longer:\n  lesion-exp resume run=a+ trainer\.max_epochs=N$"):
        check_unfinished(run)
    run.status = "KILLED"
    check_unfinished(run)
    check_unfinished(SimpleNamespace(run_id="a" * 32, status="FINISHED", tags={"kind": "ensemble"}, params={}))


def test_an_extension_on_other_devices_is_refused_where_the_job_leaves_their_number_open():
    node = {"devices": "auto", "num_nodes": 1, "accelerator": "cpu", "find_batch_size": False, "find_lr": False}
    job = SimpleNamespace(config={"trainer": node}, command="lesion-exp train seed=1")
    run = SimpleNamespace(run_id="a" * 32, params={"resolved.trainer.devices": "4"})
    said = r"the 4 devices on which run a+ began .*devices=auto.* got 1 here.* from the start: lesion-exp train seed=1$"
    with pytest.raises(ConfigError, match=said):
        _check_devices(job, run)
    _check_devices(job, SimpleNamespace(run_id="a" * 32, params={"resolved.trainer.devices": "1"}))
    _check_devices(SimpleNamespace(config={"trainer": {**node, "devices": 2}}), run)


class LaterTensor(nn.Module):
    """A loss whose state is a tensor or nothing."""

    def __init__(self, class_counts):
        super().__init__()
        self.current = None
        self.register_buffer("weights", 1 / torch.tensor(class_counts, dtype=torch.float32), persistent=False)

    def set_epoch(self, epoch, max_epochs):
        self.current = self.weights if epoch >= 0.5 * max_epochs else None

    def forward(self, logits, labels):
        return nn.functional.cross_entropy(logits, labels, self.current)


class LaterCallable:
    """The same as an object that is no module."""

    def __init__(self, class_counts):
        self.loss = LaterTensor(class_counts)
        self.set_epoch = self.loss.set_epoch

    def __call__(self, logits, labels):
        return self.loss(logits, labels)


@pytest.mark.parametrize("kind", ["LaterTensor", "LaterCallable"])
def test_a_loss_of_ones_own_is_compared_by_its_values(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "longer_losses_of_the_test", sys.modules[__name__])
    monkeypatch.setenv(TRUST_VARIABLE, f"longer_losses_of_the_test,{__name__.partition('.')[0]}")
    node = {"_target_": f"longer_losses_of_the_test.{kind}"}
    job = SimpleNamespace(config={"loss": node}, options={"loss": "later"})
    table = pd.DataFrame({"split": "train", "label": ["mel", "nv", "nv"]})
    split = SimpleNamespace(table=table, classes=("mel", "nv"))
    lengths = TrainingLength(10, max_epochs=4), TrainingLength(10, max_epochs=8)
    before = torch.random.get_rng_state()
    assert _loss_differs(job, split, lengths, 2) is None, "neither has begun to weigh the classes"
    assert _loss_differs(job, split, lengths, 4) == (
        "loss=later changes after a share of the epochs, and changed in epoch 3 of 4, where it would be different in a "
        "training of 8"
    )
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_extension_is_of_all_states_of_the_users_code_that_trained_it(tmp_path, monkeypatch):
    module = tmp_path / "extended_losses_of_the_test.py"
    module.write_text("two = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, module.stem)
    config = {"loss": {"_target_": f"{module.stem}.loss"}}
    tags = {name: f"0 and {digest}" for name, digest in code_tags(config).items()}
    digests = {module.name: f"1 and {code_digests(config)[module.name]}"}
    (tmp_path / "own_code.json").write_text(json.dumps(digests))
    run = SimpleNamespace(run_id="a" * 32, name="s0", tags=tags, fetch=lambda _: tmp_path / "own_code.json")
    trained = Trained(tmp_path / LAST, None, 10, 2, True)

    def found():
        context = _context(run, SimpleNamespace(config=config), "trainer.max_epochs=4", trained)
        return {**context.tags, **context.own_code}

    assert found() == {EXTENDS_TAG: run.run_id, **tags, **digests}, "the code is that of the last steps"
    module.write_text("three = 3\n")
    now = {**code_tags(config), **code_digests(config)}
    before = {**tags, **digests}
    assert found() == {EXTENDS_TAG: run.run_id, **{name: f"{before[name]} and {now[name]}" for name in before}}

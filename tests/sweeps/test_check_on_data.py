import re

import pytest

from lesion_exp.errors import ConfigError, DataError, LeakageError
from lesion_exp.progress import Stage, _board
from lesion_exp.sweeps.plan import plan_sweep
from tests.tiny import TINY


def check(project, *overrides):
    plan_sweep([*TINY, *overrides], root=project).check()


def test_what_concerns_several_cells_is_said_once_with_their_number(project, caplog):
    check(project, "loader.batch_size=16,500", "seed=1,2")
    (text,) = [record.getMessage() for record in caplog.records if "fewer than one step" in record.getMessage()]
    assert text.endswith("(in 2 of 4 cells: loader.batch_size=500 seed=1 and 1 more)")


def test_a_cell_that_cannot_be_trained_is_noticed_before_the_first_begins(project):
    with pytest.raises(ConfigError, match=r"validated at least once.*\n.in 1 of 2 cells: trainer.max_steps=1"):
        check(project, "trainer.max_steps=1,50", "backbone=small_cnn")
    with pytest.raises(DataError, match=r"no image file[\s\S]*in all 2 cells"):
        check(project, "dataset.num_missing=2", "seed=1,2")


def test_cells_whose_weights_knew_labels_of_the_test_part_are_refused_before_the_first_begins(project, monkeypatch):
    def refuse(config, split):
        raise LeakageError("expected initial weights that were trained on no image")

    monkeypatch.setattr("lesion_exp.training.seen_before.with_inherited", refuse)
    with pytest.raises(LeakageError, match=r"that were trained on no image[\s\S]*in all 2 cells"):
        check(project, "seed=1,2")


def test_what_is_done_before_the_first_cell_is_said(project, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "lesion_exp.sweeps.plan.check_cell", lambda *_: shown.append(_board._stages[-1].progress_line())
    )
    with Stage("training", background=True):
        plan_sweep([*TINY, "seed=1,2"], root=project).check()
    assert shown == ["checking the cells of the sweep: 0 s so far"] * 2


def test_a_sweep_compares_by_a_metric_that_every_epoch_has(project):
    with pytest.raises(ConfigError, match=r"search\.metric to be a metric of an epoch .*did you mean 'val/accuracy'"):
        check(project, "seed=1,2", "search.metric=val/acc")
    with pytest.raises(ConfigError, match=r"set search\.direction=minimize"):
        check(project, "seed=1,2", "search.metric=val/loss")


@pytest.mark.parametrize("metric", ["search.metric=val/loss", "search.metric=[val/f1_macro,val/loss]"])
@pytest.mark.parametrize("losses", ["loss=focal,cross_entropy", "loss.label_smoothing=0,0.1"])
def test_different_losses_are_not_compared_by_their_own_values(project, metric, losses):
    direction = "[maximize,minimize]" if "[" in metric else "minimize"
    words = (metric, f"search.direction={direction}")
    with pytest.raises(ConfigError, match=rf"got val/loss, .* which {losses.partition('=')[0]} changes; .*") as caught:
        plan_sweep([*TINY, losses, "seed=1,2", *words], root=project)
    remedy = str(caught.value).partition("for example ")[2].split()
    assert plan_sweep([*TINY, losses, "seed=1,2", *remedy], root=project) is not None
    assert plan_sweep([*TINY, "optimizer.lr=0.1,0.01", *words], root=project) is not None


TEACHER = ("loss.teacher=0123456789abcdef0123456789abcdef", "loss.teacher_weights=0123456789abcdef")


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (("loss=distill", *TEACHER, "loss@loss.labels=cross_entropy,focal"), "loss@loss.labels"),
        (("loss=distill", *TEACHER, "loss.labels.label_smoothing=0,0.1"), "loss.labels.label_smoothing"),
        (("loss=distill", *TEACHER, "loss.temperature=2,4", "loss.label_share=0.1,0.5"), None),
        (("loss=distill", *TEACHER, "loss@loss.labels=ldam", "loss.labels.defer_epoch=0.5,1"), None),
        (("loss=ldam", "loss.defer_epoch=0.5,1", "loss.beta=0.9,0.99"), None),
        (("loss=ldam", "loss.defer_epoch=0.5,1", "loss.scale=1,2"), "loss.scale"),
    ],
)
def test_a_key_of_the_loss_is_compared_by_the_loss_of_validation_if_it_does_not_change_that(project, words, changed):
    sweep = [*TINY, *words, "search.metric=val/loss", "search.direction=minimize"]
    if changed is None:
        assert plan_sweep(sweep, root=project) is not None
        return
    with pytest.raises(ConfigError, match=rf"the training objective, which {re.escape(changed)} changes"):
        plan_sweep(sweep, root=project)

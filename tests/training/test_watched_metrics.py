import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.training.watched_metrics import check_direction, check_metric, check_watched, watched_by


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("val/acc", "val/accuracy"),
        ("val_loss", "val/loss"),
        ("val_acc", "val/accuracy"),
        ("valid/loss", "val/loss"),
        ("auc", "val/auroc_macro"),
        ("balanced_accuracy", "val/balanced_accuracy"),
        ("val/balanced_acuracy", "val/balanced_accuracy"),
    ],
)
def test_a_metric_that_no_epoch_has_is_answered_with_the_one_that_was_meant(name, meant):
    with pytest.raises(ConfigError, match=f"expected scheduler.monitor to be a metric .*did you mean '{meant}'"):
        check_metric("scheduler.monitor", name)


@pytest.mark.parametrize("name", ["test/accuracy", "train/loss_step", "best/val/loss", "val/recall/", "", None, 3])
def test_what_is_logged_at_other_times_is_no_metric_of_an_epoch(name):
    with pytest.raises(ConfigError, match=r"expected key to be a metric of an epoch \(train/loss, val/loss"):
        check_metric("key", name)


def test_a_recall_is_one_of_the_classes_once_they_are_known():
    check_metric("key", "val/recall/mel")
    check_metric("key", "val/recall/mel", ("mel", "nv"))
    with pytest.raises(ConfigError, match="val/recall/nv"):
        check_metric("key", "val/recall/melanoma", ("mel", "nv"))


def test_an_area_under_the_roc_curve_needs_two_classes_in_the_validation_part():
    check_watched(watching(monitor="val/auroc_macro"))
    check_watched(watching(monitor="val/auroc_macro"), ["mel", "nv"])
    for changed, key in (
        ({"monitor": "val/auroc_macro"}, "trainer.monitor"),
        ({"stopping": {"patience": 3, "monitor": "val/auroc_macro"}}, "trainer.early_stopping.monitor"),
        ({"scheduler": {"monitor": "val/auroc_macro", "mode": "max"}}, "scheduler.monitor"),
    ):
        said = (
            f"at least two classes for {key}=val/auroc_macro.*got images of nv alone; set {key}=val/balanced_accuracy"
        )
        with pytest.raises(ConfigError, match=said):
            check_watched(watching(**changed), ["nv"])


def test_the_training_loss_is_not_a_metric_of_validation():
    check_metric("key", "train/loss")
    with pytest.raises(ConfigError, match=r"expected key to be a metric of an epoch \(val/loss"):
        check_metric("key", "train/loss", only_validation=True)


def test_a_loss_is_better_where_it_is_lower():
    check_direction("mode", "min", "val/loss", lower="min", higher="max")
    check_direction("mode", "max", "val/recall/mel", lower="min", higher="max")
    with pytest.raises(ConfigError, match="set mode=min"):
        check_direction("mode", "max", "train/loss", lower="min", higher="max")
    with pytest.raises(ConfigError, match="set mode=max"):
        check_direction("mode", "min", "val/accuracy", lower="min", higher="max")


def watching(scheduler=(), stopping=(), monitor="val/balanced_accuracy"):
    return {
        "metrics": {},
        "scheduler": {"_target_": "lesion_exp.scheduler.plateau.plateau", "monitor": "val/loss", "mode": "min"}
        | dict(scheduler),
        "trainer": {"monitor": monitor,
                    "early_stopping": {"patience": None, "monitor": "val/balanced_accuracy", "mode": "max"}
                    | dict(stopping)},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scheduler", "stopping", "remedy"),
    [
        ({"monitor": "val/balanced_accuracy"}, {}, "set scheduler.mode=max"),
        ({"mode": "max"}, {}, "set scheduler.mode=min"),
        ({}, {"patience": 3, "mode": "min"}, "set trainer.early_stopping.mode=max"),
        ({}, {"patience": 3, "monitor": "val/loss"}, "set trainer.early_stopping.mode=min"),
        ({"monitor": "val/f1"}, {}, "did you mean 'val/f1_macro'"),
        (
            {},
            {"patience": 3, "monitor": "val/ece"},
            "expected trainer.early_stopping.monitor to be a metric",
        ),
    ],
)
def test_what_a_job_watches_is_checked_in_one_place(scheduler, stopping, remedy):
    with pytest.raises(ConfigError, match=remedy.replace(".", r"\.")):
        check_watched(watching(scheduler, stopping))


@pytest.mark.parametrize(
    ("monitor", "remedy"),
    [
        ("val_auc", "did you mean 'val/auroc_macro'"),
        ("train/loss", "expected trainer.monitor to be a metric of an epoch"),  # it has no value when a validation ends
        ("val/recall/naevus", "did you mean 'val/recall/nv'"),
    ],
)
def test_the_metric_of_the_best_epoch_must_exist(monitor, remedy):
    with pytest.raises(ConfigError, match=remedy.replace(".", r"\.")):
        check_watched(watching(monitor=monitor), ["mel", "nv"])


def test_the_best_epoch_has_the_direction_of_its_metric():
    by_loss, by_recall = (watched_by(watching(monitor=name)) for name in ("val/loss", "val/recall/mel"))
    assert by_loss == ("val/loss", "min")
    assert by_recall == ("val/recall/mel", "max")
    assert [watched.is_better(0.5, 0.6) for watched in (by_loss, by_recall)] == [True, False]
    assert [watched.is_better(0.6, 0.5) for watched in (by_loss, by_recall)] == [False, True]


def test_early_stopping_that_is_off_watches_nothing():
    check_watched(watching(stopping={"monitor": "val/nothing"}))
    check_watched({**watching(), "scheduler": {"_target_": "lesion_exp.scheduler.cosine.cosine"}})

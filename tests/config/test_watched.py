import pytest

from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError


@pytest.fixture
def watched(tmp_path):
    def of(*overrides):
        config = compose(overrides, root=tmp_path).config
        nodes = (config["trainer"]["early_stopping"], config["scheduler"])
        return config["trainer"]["monitor"], *((node.get("monitor"), node.get("mode")) for node in nodes)

    return of


def test_what_was_watched_before_is_the_default(watched):
    stopping = ("val/balanced_accuracy", "max")
    assert watched() == ("val/balanced_accuracy", stopping, (None, None))
    assert watched("scheduler=plateau") == ("val/balanced_accuracy", stopping, ("val/loss", "min"))


def test_one_key_sets_what_everything_watches_in_its_direction(watched):
    for name, mode in (("val/loss", "min"), ("val/auroc_macro", "max"), ("val/recall/mel", "max")):
        assert watched("scheduler=plateau", f"trainer.monitor={name}") == (name, (name, mode), (name, mode))


def test_early_stopping_and_a_scheduler_may_watch_others(watched):
    given = ("trainer.early_stopping.monitor=val/loss", "scheduler.monitor=val/accuracy")
    found = watched("scheduler=plateau", "trainer.monitor=val/f1_macro", *given)
    assert found == ("val/f1_macro", ("val/loss", "min"), ("val/accuracy", "max"))


def test_a_pretraining_watches_its_probe(watched):
    probe = "val/knn_balanced_accuracy"
    assert watched("pretrain=simclr")[0] == probe
    stopped = watched("pretrain=simclr", "scheduler=plateau", "trainer.early_stopping.patience=2")
    assert stopped == (probe, (probe, "max"), (probe, "max"))


def test_a_direction_that_is_not_known_stays_open(watched):
    assert watched("trainer.early_stopping.monitor=val/nothing")[1] == ("val/nothing", "auto")


@pytest.mark.parametrize("key", ["trainer.monitor", "trainer.early_stopping.monitor", "scheduler.monitor"])
def test_only_a_name_can_be_watched(watched, key):
    with pytest.raises(ConfigError, match=f"expected {key} to be the name of a metric"):
        watched("scheduler=plateau", f"{key}={{wrong:1}}")

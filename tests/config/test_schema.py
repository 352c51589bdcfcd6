from pathlib import Path

import pytest
import yaml

from lesion_exp.choices import CHOICES
from lesion_exp.config.compose import compose
from lesion_exp.config.schema import ABOVE_ZERO, BETWEEN, INTERNAL_TAGS, LEAST, NAMES, NEVER_NULL, check_values
from lesion_exp.errors import ConfigError


@pytest.fixture(scope="module")
def defaults():
    return compose([], root=Path("/project")).config


def changed(defaults, key, value):
    """The default config with one key changed."""
    first, _, rest = key.partition(".")
    inner = changed(defaults.get(first) or {}, rest, value) if rest else value
    return {**defaults, first: inner}


def refusal(defaults, key, value):
    with pytest.raises(ConfigError) as caught:
        check_values(changed(defaults, key, value), defaults)
    return str(caught.value)


def test_the_shipped_defaults_pass(defaults):
    check_values(defaults, defaults)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("seed", "one", "a whole number"),
        ("seed", 1.5, "a whole number"),
        ("seed", True, "a whole number"),
        ("test", "maybe", "true, false or auto"),
        ("test", 1, "true, false or auto"),
        ("image_size", "large", "a whole number"),
        ("optimizer.lr", "fast", "a number"),
        ("optimizer.lr", False, "a number"),
        ("optimizer.lr", {"peak": 1}, "a number"),
        ("loader", 3, "keys"),
        ("tags", "pilot", "keys"),
        ("tracking.experiment", 3, "text"),
        ("split.ratios.train", "most", "a number"),
        ("loader.num_workers", "many", "auto"),
        ("trainer.early_stopping.patience", "long", "a number"),
        ("trainer.devices", True, "a whole number of at least 1, a list such as [0,1]"),
        ("trainer.devices", [True], "a whole number of at least 1, a list such as [0,1]"),
        ("trainer.devices", [], "a list such as [0,1]"),
    ],
)
def test_a_value_of_the_wrong_kind_names_the_key_the_kind_and_the_value(defaults, key, value, kind):
    message = refusal(defaults, key, value)
    assert message.startswith(f"expected {key} to be")
    assert kind in message
    assert repr(value) in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("split.seed", -1),
        ("image_size", 15),
        ("loader.batch_size", 0),
        ("loader.num_workers", -1),
        ("trainer.max_epochs", 0),
        ("trainer.max_epochs", -2),
        ("trainer.gradient_clip_val", 0),
        ("trainer.ema_decay", 1.0),
        ("trainer.ema_decay", 0),
        ("optimizer.lr", 0),
        ("optimizer.weight_decay", -0.1),
        ("evaluation.bootstrap_draws", 1),
        ("dataset.limit", 0),
        ("dataset.store_size", -1),
        ("backbone.width", 0),
        ("trainer.limit_train_batches", 0),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_bound(defaults, key, value):
    message = refusal(defaults, key, value)
    assert message.startswith(f"expected {key} ")
    assert str(value) in message
    assert any(word in message for word in ("at least", "above", "between"))


@pytest.mark.parametrize("key", CHOICES)
def test_a_word_that_is_no_choice_is_answered_with_the_choices(defaults, key):
    right = CHOICES[key][-1]
    check_values(changed(defaults, key, right), defaults)
    message = refusal(defaults, key, f"{right}x")
    assert all(choice in message for choice in CHOICES[key])
    assert f"{right!r}" in message.partition("did you mean")[2] or "known: " in message


@pytest.mark.parametrize("key", NAMES)
def test_what_mlflow_shows_needs_a_name(defaults, key):
    for value in ("", "  ", ["a"], {"a": 1}):
        assert refusal(defaults, key, value).startswith("expected")
    check_values(changed(defaults, key, "first try"), defaults)


@pytest.mark.parametrize("key", NEVER_NULL)
def test_what_every_run_reads_cannot_be_null(defaults, key):
    assert f"expected a value for {key}, got null" in refusal(defaults, key, None)


@pytest.mark.parametrize("override", ["~seed", "~test", "~loader.batch_size", "~trainer.max_epochs", "seed=null"])
def test_what_every_run_reads_cannot_be_taken_out(override):
    with pytest.raises(ConfigError, match=f"expected a value for {override.strip('~').partition('=')[0]}"):
        compose([override], root=Path("/project"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.lr", 1),
        ("trainer.max_steps", 1000),
        ("trainer.devices", [0, 1]),
        ("trainer.devices", 2),
        ("trainer.precision", 32),
        ("trainer.limit_train_batches", 0.5),
        ("trainer.limit_train_batches", 3),
        ("trainer.channels_last", False),
        ("trainer.deterministic", True),
        ("trainer.gradient_clip_val", None),
        ("loader.num_workers", 0),
        ("loader.num_workers", "auto"),
        ("dataset.limit", 50),
        ("dataset.limit", None),
        ("dataset.filter", "age > 0"),
        ("dataset.class_shares", {"nv": 2, "mel": 1}),
        ("tags", {"cohort": "pilot", "number": 3}),
    ],
)
def test_sensible_values_pass(defaults, key, value):
    check_values(changed(defaults, key, value), defaults)


@pytest.mark.parametrize(
    "end", ["trainer.max_steps=100", "trainer.max_time=00:01:00:00", "trainer.early_stopping.patience=3"]
)
def test_a_training_without_a_last_epoch_needs_another_end(end):
    root = Path("/project")
    assert compose(["trainer.max_epochs=-1", end], root=root).config["trainer"]["max_epochs"] == -1
    with pytest.raises(ConfigError, match=f"something that ends the training.*{end.partition('=')[0]}"):
        compose(["trainer.max_epochs=-1"], root=root)
    with pytest.raises(ConfigError, match=r"expected trainer\.max_steps of at least 1, got 0"):
        compose(["trainer.max_steps=0"], root=root)


@pytest.mark.parametrize("key", ["optimizer.lr", "optimizer.weight_decay", "trainer.limit_val_batches"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(defaults, key, value):
    told = refusal(defaults, key, value)
    assert told.startswith(f"expected a finite number for {key}, got {value}; for example {key}=")
    allowed = float(told.rpartition("=")[2])
    check_values(changed(defaults, key, allowed), defaults)


OUT_OF_RANGE = [*((key, -2) for key in (*LEAST, *ABOVE_ZERO)), *((key, 1.0) for key in BETWEEN)]


@pytest.mark.parametrize(("key", "value"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_refused_with_one_that_is_taken(defaults, key, value):
    told = refusal(defaults, key, value)
    assert f"got {value}; for example {key}=" in told
    taken = yaml.safe_load(told.rpartition("=")[2])
    check_values(changed(defaults, key, taken), defaults)


@pytest.mark.parametrize("value", [0, 0.0])
def test_a_validation_after_no_batch_is_refused(defaults, value):
    assert refusal(defaults, "trainer.val_check_interval", value) == (
        f"expected trainer.val_check_interval above 0, got {value}; for example trainer.val_check_interval=1"
    )


@pytest.mark.parametrize("name", [*sorted(INTERNAL_TAGS), "mlflow.user", "data.labels", "version.torch"])
def test_a_tag_cannot_take_the_place_of_one_that_a_run_has_of_itself(defaults, name):
    with pytest.raises(ConfigError, match=f"got tags.{name}") as caught:
        check_values({**defaults, "tags": {name: "mine"}}, defaults)
    remedy = str(caught.value).rpartition("such as tags.")[2]
    check_values({**defaults, "tags": {remedy: "mine", "data": "mine", "question": "mine"}}, defaults)

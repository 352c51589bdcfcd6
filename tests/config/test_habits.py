import re
import shlex

import pytest

from lesion_exp.cli import main
from lesion_exp.config.habits import HABITS, better_hint, usual_name
from lesion_exp.config.overrides import parse_overrides
from lesion_exp.config.schema import TRAINER_ARGUMENTS
from lesion_exp.config.shipped_conf import conf_dir, documented_keys, group_names, option_names
from lesion_exp.errors import ConfigError
from tests.own_process import restored

CONF = conf_dir()


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("lr=0.1", "write optimizer.lr=0.1"),
        ("+lr=0.1", "write optimizer.lr=0.1"),
        ("epochs=3", "write trainer.max_epochs=3"),
        ("batch_size=8", "write loader.batch_size=8"),
        ("model=resnet50", "write backbone=resnet50"),
        ("gpus=1", "write trainer.devices=1"),
        ("gpu=1", "write trainer.devices=1 for so many GPUs, or 'trainer.devices=[1]' for the GPU with that index"),
        ("gpu_id=1", "write 'trainer.devices=[1]'"),
        ("epochs=abc", "write trainer.max_epochs=NUMBER"),
        ("--lr=0.1", "keys have no dashes: write optimizer.lr=0.1"),
        ("--batch-size=8", "keys have no dashes: write loader.batch_size=8"),
        ("num_workers=4", "write loader.num_workers=4"),
        ("pretrained=true", "write backbone.weights=imagenet"),
        ("pretrained=false", "write backbone.weights=none"),
        ("freeze_backbone=true", "write backbone.tune=head"),
        ("freeze_backbone=false", "backbone.tune=head switches it on: leave it out"),
        ("data=DIR", "write dataset.root=DIR"),
        ("monitor=val/loss", "write trainer.monitor=val/loss"),
        ("dropout=0.2", "write backbone.dropout=0.2"),
        ("wandb=true", "runs are logged to MLflow: tracking.uri="),
        ("num_classes=7", "leave it out"),
        ("tau=1", "write loss.tau=1 (with loss=logit_adjusted)"),
        ("gamma=2", "several keys: loss.gamma, scheduler.gamma"),
        ("optimizer.learning_rate=0.1", "write optimizer.lr="),
        ("trainer.epochs=3", "did you mean 'trainer.max_epochs'"),
        ("loss.gamma=2", "write loss.gamma=VALUE (with loss=focal)"),
        ("optimizer.lrr=1", "did you mean 'optimizer.lr'"),
        ("backbonee=resnet18", "did you mean 'backbone'"),
    ],
)
def test_a_habit_is_answered_with_the_key_that_is_meant(tmp_path, monkeypatch, capsys, argument, meant):
    monkeypatch.chdir(tmp_path)
    with restored():
        assert main(["train", argument]) == 2
    assert meant in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("key", "near", "answer"),
    [
        ("loss.eps", "did you mean 'loss.epsilon'?", "did you mean 'loss.epsilon'?"),
        ("loss.lr", "did you mean 'loss.lrr'?", "did you mean 'loss.lrr'?"),
        ("loss.lr", "known: gamma, scale", "write optimizer.lr=VALUE"),
        ("trainer.weight_decay", "did you mean 'trainer.ema_decay'?",
         "did you mean 'trainer.ema_decay'? Otherwise, write optimizer.weight_decay=VALUE"),
        ("loss.eps", "did you mean 'optimizer.eps'?", "did you mean 'optimizer.eps'?"),
        ("trainer.epochs", "did you mean 'trainer.max_epochs'?", "did you mean 'trainer.max_epochs'?"),
        ("eps", "did you mean 'seed'?", "write optimizer.eps=VALUE"),
    ],
)  # fmt: skip
def test_a_suggestion_of_the_group_that_was_typed_comes_first(key, near, answer):
    assert better_hint(key, "", near, CONF).startswith(answer)


def test_a_key_of_an_option_of_ones_own_is_suggested_before_that_of_another_group(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "poly.yaml").write_text("_target_: my_losses.poly\nepsilon: 1.0  # weight\n")
    with restored():
        assert main(["train", "--config-dir", "conf", "loss=poly", "loss.eps=2"]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'loss.epsilon'?" in said
    assert "optimizer.eps" not in said


def test_a_flag_with_its_value_apart_is_answered_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with restored():
        assert main(["train", "--lr", "0.1"]) == 2
        assert "write optimizer.lr=0.1" in capsys.readouterr().err
        assert main(["train", "--epochs"]) == 2
        assert "write trainer.max_epochs=VALUE" in capsys.readouterr().err


def test_every_answer_names_keys_and_options_that_exist():
    keys = set(documented_keys(CONF)) | {f"trainer.{name}" for name in TRAINER_ARGUMENTS}
    for group in group_names([CONF]):
        for option in option_names(group, [CONF]):
            found = documented_keys(CONF, {group: option})
            keys |= {key.replace("/", ".") for key in found}
    groups = {group: option_names(group, [CONF]) for group in group_names([CONF])}
    nodes = {key.rpartition(".")[0] for key in keys}
    answers = {
        word for meaning in HABITS.values() for word in re.findall(r"[\w./]+=\S+", meaning) if "run=" not in word
    }
    assert len(answers) > 40
    for word in answers:
        key, _, value = word.partition("=")
        assert key in keys | nodes or key in groups, word
        if key in groups and value != "{}":
            assert value in groups[key], word


def test_a_name_that_the_config_has_is_no_habit():
    top = {key.partition(".")[0] for key in documented_keys(CONF)}
    assert not top & set(HABITS)


def test_a_name_that_nobody_knows_has_no_answer():
    assert usual_name("zebra", "1", CONF) == ""


def test_a_text_is_no_value_of_a_key_that_takes_numbers():
    assert usual_name("epochs", "2,3", CONF) == "write trainer.max_epochs=2,3"
    assert usual_name("lr", "range(1,3)", CONF) == "write optimizer.lr=range(1,3)"
    assert usual_name("lr", "1e-3,high", CONF) == "write optimizer.lr=NUMBER"
    assert usual_name("model", "resnet18", CONF) == "write backbone=resnet18"


def test_a_truth_value_is_no_value_of_another_key():
    assert usual_name("ema", "true", CONF) == "write trainer.ema_decay=VALUE"


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ("dataset.filter=age > 0 and sex == 'male'", "dataset.filter=\"age > 0 and sex == 'male'\""),
        ("tags.note=a (b)", 'tags.note="a (b)"'),
        ('tags.note=say "a" (b)', "tags.note='say \"a\" (b)'"),
    ],
)
def test_the_hint_at_quotes_shows_the_key_and_value_that_were_typed(argument, remedy):
    with pytest.raises(ConfigError) as caught:
        parse_overrides([argument])
    [typed] = shlex.split(str(caught.value).partition("once more for the shell: ")[2])
    assert typed == remedy
    assert parse_overrides([typed])[0].value() == argument.partition("=")[2]


@pytest.mark.parametrize(
    ("argument", "remedy", "value"),
    [
        ("trainer.devices=[0,1", "trainer.devices=[0,1]", [0, 1]),
        ("dataset.labels={a: mel", "dataset.labels={a: mel}", {"a": "mel"}),
        ("search.space={seed: [1,2", "search.space={seed: [1,2]}", {"seed": [1, 2]}),
        ("dataset.filter=(age > 0", 'dataset.filter="(age > 0)"', "(age > 0)"),
        ("dataset.labels={a: 'm]'", "dataset.labels={a: 'm]'}", {"a": "m]"}),
    ],
)
def test_a_bracket_that_is_not_closed_is_closed(argument, remedy, value):
    with pytest.raises(ConfigError, match="in which a bracket is not closed; close it: ") as caught:
        parse_overrides(["seed=1", argument])
    [typed] = shlex.split(str(caught.value).partition("close it: ")[2])
    assert typed == remedy
    assert parse_overrides([typed])[0].value() == value


@pytest.mark.parametrize("argument", ["tags.note=[draft", "dataset.labels={a: mel]", "dataset.labels={a:, b"])
def test_where_closing_brackets_is_no_remedy_none_is_closed(argument):
    with pytest.raises(ConfigError, match="; quote a value that contains"):
        parse_overrides([argument])


def test_where_quotes_are_no_remedy_the_hint_shows_an_example():
    with pytest.raises(ConfigError, match=r"once more for the shell: 'dataset.filter=\"age > 0\"'"):
        parse_overrides(["a b=(1"])

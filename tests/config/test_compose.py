import copy
import inspect
import shutil
from itertools import zip_longest
from pathlib import Path

import pytest
import pytorch_lightning as pl

from lesion_exp.config import compose as compose_module
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.instantiate import check_targets
from lesion_exp.config.schema import TRAINER_ARGUMENTS
from lesion_exp.config.shipped_conf import conf_dir, default_options, option_names
from lesion_exp.errors import ConfigError
from lesion_exp.training.run import UNREAD_KEYS

CONF = conf_dir()
NEEDED = {
    "dataset=combined": ["dataset.sets={ph2: DIR}"],
    "dataset=csv": ["dataset.table=labels.csv"],
    "split=file": ["split.path=parts.csv"],
    "loss=distill": ["loss.teacher=0123456789abcdef0123456789abcdef", "loss.teacher_weights=0123456789abcdef"],
    "experiment=distill": [
        *("loss.teacher=0123456789abcdef0123456789abcdef", "loss.teacher_weights=0123456789abcdef"),
    ],
    "backbone=timm": ["backbone.name=convnextv2_nano"],
    "backbone=torchvision": ["backbone.name=regnet_y_400mf"],
}
"""What an option asks the user for, beside dataset.root."""
ROOTLESS = {"synthetic", "combined"}
GROUPS = [*default_options(CONF), "augmentation/mix"]
PRESETS = {"experiment", "debug"}


def composed(*overrides, root=Path("/project"), **keywords):
    return compose(overrides, root=root, **keywords).config


def refusal(*overrides, **keywords):
    with pytest.raises(ConfigError) as caught:
        composed(*overrides, **keywords)
    return str(caught.value)


def choices(*chosen):
    """These choices of options, with what they need from the user."""
    needed = [text for choice in chosen for text in NEEDED.get(choice, [])]
    sets = [choice.partition("=")[2] for choice in chosen if choice.startswith("dataset=")]
    return [*chosen, *needed, *(["dataset.root=DIR"] if sets and sets[-1] not in ROOTLESS else [])]


def one_option_of_every_group():
    """Rows of choices that together name every option of every group at least once."""
    columns = [
        [f"{group}={option}" for option in option_names(group, [CONF])] for group in GROUPS if group not in PRESETS
    ]
    return [[choice for choice in row if choice] for row in zip_longest(*columns)]


def test_the_defaults_are_a_whole_config():
    config = composed()
    assert {group for group, option in default_options(CONF).items() if option} - {"launcher", "search"} <= set(config)
    assert config["seed"] == config["split"]["seed"] == config["dataset"]["seed"] == 0
    assert config["paths"]["root"] == "/project"


def test_the_seed_of_the_run_leaves_those_of_data_and_split_alone():
    config = composed("seed=7")
    assert (config["seed"], config["split"]["seed"], config["dataset"]["seed"]) == (7, 0, 0)


def test_what_was_written_is_kept():
    assert compose(["seed=3", "loss=focal"], root=Path("/project")).overrides == ("seed=3", "loss=focal")


def test_an_entry_can_be_added_to_the_columns_of_a_table_of_the_users(tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "clinic.yaml").write_text(
        "defaults: [csv, _self_]\nroot: /data\ntable: a.csv\ncolumns: {image_id: file}\n"
    )
    for override in ("dataset.columns={mask_path: mask}", "dataset.columns.mask_path=mask"):
        config = composed("dataset=clinic", override, config_dirs=[tmp_path])
        assert config["dataset"]["columns"] == {"image_id": "file", "mask_path": "mask"}
    plain = ["dataset=csv", "dataset.root=/data", "dataset.table=a.csv", "dataset.columns={mask_path: mask}"]
    assert composed(*plain)["dataset"]["columns"] == {"mask_path": "mask"}
    assert "got dataset.columns;" in refusal("dataset=synthetic", "dataset.columns={mask_path: mask}")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("backbonee=resnet18", "'backbone'"),
        ("optimzer.lr=1", "'optimizer'"),
        ("sed=1", "'seed'"),
        ("backbone=resnet19", "'resnet18'"),
        ("augmentation/mix=cutmixx", "'cutmix'"),
        ("experiment=ham10000_gpu", "'ham10000_cpu'"),
        ("optimizer.lrr=1", "'optimizer.lr'"),
        ("trainer.max_epoch=3", "'trainer.max_epochs'"),
        ("trainer.early_stopping.patiense=3", "'trainer.early_stopping.patience'"),
        ("loader.batchsize=8", "'loader.batch_size'"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(override, named):
    message = refusal(override)
    assert message.startswith("expected")
    assert override.partition("=")[0] in message
    assert f"did you mean {named}" in message or f"or {named}" in message


def test_every_name_in_a_suggestion_can_be_used_as_it_stands():
    suggestion = refusal("trainer.max_epoch=3").partition("did you mean ")[2]
    assert all(name.startswith("trainer.") for name in suggestion.split("'")[1::2])


def test_the_base_of_a_group_is_no_option():
    message = refusal("split=base")
    assert message.count("by_image, file, grouped") == 1, "the options are listed once"
    assert "options: by_image, file, grouped" in message


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["dataset=ham10000"], ["dataset.root=DIR"]),
        (["dataset=ph2", "split=file"], ["dataset.root=DIR", "split.path=FILE.csv"]),
        (["backbone=timm"], ["backbone.name=VALUE"]),
        (["dataset=combined"], ["dataset.sets={ham10000: DIR, ph2: DIR}"]),
        (["image_size=???"], ["image_size=VALUE"]),
    ],
)
def test_a_missing_value_is_asked_for_by_name(overrides, wanted):
    message = refusal(*overrides)
    assert message.startswith("expected a value for")
    assert all(text in message for text in wanted)


@pytest.mark.parametrize("value", ["${nope}", "${oc.env:LESION_EXP_NO_SUCH_VARIABLE}"])
def test_a_reference_to_nothing_is_a_mistake_of_the_user(value):
    assert "references" in refusal(f"dataset.root={value}")


@pytest.mark.parametrize("override", ["seed=1,2", "seed=range(3)", "seed=choice(1,2)", "backbone=resnet18,resnet50"])
def test_a_sweep_is_refused(override):
    assert "expected one value" in refusal(override)


@pytest.mark.parametrize("override", ["seed", "--seed", "dataset.filter=age > 0 and (x", "=1", "seed=[1"])
def test_what_is_no_override_is_refused(override):
    assert "expected" in refusal(override)


@pytest.mark.parametrize("override", ["+typo=1", "+loader.typo=1", "+task.typo=1"])
def test_a_key_that_nothing_reads_cannot_be_added(override):
    assert override[1:].partition("=")[0] in refusal(override)


def test_keys_are_added_where_something_reads_them():
    config = composed("+trainer.profiler=simple", "+tags.a=b", "+optimizer.amsgrad=true")
    assert config["trainer"]["profiler"] == "simple"
    assert config["tags"] == {"a": "b"}
    assert config["optimizer"]["amsgrad"] is True


def test_a_tag_needs_no_plus():
    assert composed("tags.cohort=pilot", "tags.reader=two")["tags"] == {"cohort": "pilot", "reader": "two"}


def test_a_transform_is_added_and_another_taken_out():
    added = composed("+augmentation/transform@augmentation.transforms.hair=hair", "~augmentation.transforms.rotate")
    assert "hair" in added["augmentation"]["transforms"]
    assert "rotate" not in added["augmentation"]["transforms"]


@pytest.mark.parametrize("override", ["loss=null", "~loss", "experiment=null", "optimizer=null"])
def test_a_group_without_an_option_is_answered_with_its_options(override):
    message = refusal(override)
    assert "leave it out for the default" in message
    assert "options: " in message


def test_an_option_of_the_users_own_folder_is_chosen_like_a_shipped_one(tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "sharp.yaml").write_text("_target_: lesion_exp.loss.focal.Focal\ngamma: 5.0\n")
    assert composed("loss=sharp", config_dirs=[tmp_path])["loss"]["gamma"] == 5.0
    assert composed("loss=sharp", "loss.gamma=1", config_dirs=[tmp_path])["loss"]["gamma"] == 1
    assert "'sharp'" in refusal("loss=sharpp", config_dirs=[tmp_path])
    assert "expected one of the options of loss" in refusal("loss=sharp")
    assert "for an option of your own, in DIR/loss/sharp.yaml, add --config-dir DIR" in refusal("loss=sharp")
    assert f"no loss/sharpp.yaml is in {tmp_path}, which --config-dir names" in refusal(
        "loss=sharpp", config_dirs=[tmp_path]
    )


def test_a_folder_of_configs_that_is_absent_is_refused(tmp_path):
    assert "--config-dir" in refusal(config_dirs=[tmp_path / "none"])


def test_relative_paths_are_taken_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = composed("dataset=ham10000", "dataset.root=data", "split=file", "split.path=parts.csv")
    assert config["dataset"]["root"] == str(tmp_path / "data")
    assert config["split"]["path"] == str(tmp_path / "parts.csv")
    assert composed("backbone.weights=net.pth")["backbone"]["weights"] == str(tmp_path / "net.pth")
    assert composed("backbone.weights=imagenet")["backbone"]["weights"] == "imagenet"
    assert composed("dataset=combined", "dataset.sets={ph2: a, x: {set: csv, root: b, table: c.csv}}")["dataset"][
        "sets"
    ] == {"ph2": str(tmp_path / "a"), "x": {"set": "csv", "root": str(tmp_path / "b"), "table": "c.csv"}}


def test_every_folder_of_the_project_is_absolute_and_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folders = composed("paths.root='~/study'", "paths.data_cache='~/fast'", "paths.jobs=jobs")["paths"]
    study = tmp_path / "home" / "study"
    assert folders == {
        "root": str(study),
        "data_cache": str(tmp_path / "home" / "fast"),
        "live": str(study / "mlruns" / "live"),
        "jobs": str(tmp_path / "jobs"),
        "sweeps": str(study / "sweeps"),
    }
    relative = composed("paths.root=study", "dataset.root=${paths.data_cache}/x")
    assert relative["dataset"]["root"] == str(tmp_path / "study" / "data_cache" / "x")
    assert all(Path(folder).is_relative_to(tmp_path / "study") for folder in relative["paths"].values())


@pytest.mark.parametrize("key", ["dataset.root", "backbone.weights", "paths.root", "paths.sweeps"])
def test_a_path_from_a_variable_that_is_not_set_is_asked_for(key):
    assert refusal(f"{key}=").startswith(f"expected a path after {key}=, got none")


def test_paths_with_blanks_and_quotes_survive(tmp_path):
    root = tmp_path / "a folder, with 'quotes' = and {braces}"
    assert composed(root=root)["paths"]["root"] == str(root)


@pytest.mark.parametrize("chosen", one_option_of_every_group(), ids="-".join)
def test_every_option_of_every_group_composes_into_targets_that_take_its_keys(chosen):
    config = composed(*choices(*chosen))
    check_targets(config, UNREAD_KEYS)


@pytest.mark.parametrize("group", sorted(PRESETS))
def test_every_preset_composes_into_targets_that_take_its_keys(group):
    for option in option_names(group, [CONF]):
        config = composed(f"{group}={option}", "dataset.root=DIR", *NEEDED.get(f"{group}={option}", []))
        check_targets(config, UNREAD_KEYS)
        assert group not in config


def test_the_command_line_wins_over_a_preset():
    config = composed("experiment=demo", "trainer.max_epochs=2", "backbone=resnet18")
    assert config["trainer"]["max_epochs"] == 2
    assert config["backbone"]["name"] == "resnet18"
    assert config["image_size"] == 64


@pytest.mark.parametrize(
    "written", ["trainer: {profilr: simple}", "loader: {batchsize: 4}", "sed: 1", "trainer: {logger: x}"]
)
def test_a_key_of_ones_own_preset_that_nothing_reads_is_refused(tmp_path, written):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{written}\n")
    with pytest.raises(ConfigError, match="expected a key of"):
        compose(["experiment=mine"], config_dirs=[tmp_path], root=Path("/project"))


def test_an_argument_of_lightnings_trainer_is_a_key():
    assert composed("trainer.profiler=simple", "+trainer.max_steps=3")["trainer"]["profiler"] == "simple"
    known = inspect.signature(pl.Trainer).parameters
    assert set(TRAINER_ARGUMENTS) <= set(known)


def test_of_two_overrides_of_a_key_the_last_counts_and_the_other_is_named(caplog):
    assert composed("seed=1", "loss=focal", "seed=2")["seed"] == 2
    assert "seed=1 does not count: seed=2 comes after it" in caplog.text


def test_a_group_of_the_config_is_chosen_without_a_plus():
    with pytest.raises(ConfigError, match="expected no plus before experiment=demo"):
        composed("+experiment=demo")


def test_what_cannot_be_parsed_is_named():
    with pytest.raises(ConfigError, match=r"got dataset.filter=a \(b; quote"):
        composed("seed=1", "dataset.filter=a (b")


def test_a_value_in_place_of_keys_is_answered_with_the_keys():
    with pytest.raises(ConfigError, match=r"expected keys below split.ratios, .* split.ratios.train=0.7"):
        composed("split.ratios=[1,0,0]")


def test_a_file_of_the_users_own_wins_over_the_shipped_one_and_is_named(tmp_path, caplog):
    for folder, gamma in (("first", 5.0), ("second", 6.0)):
        (tmp_path / folder / "loss").mkdir(parents=True)
        shipped = (conf_dir() / "loss" / "focal.yaml").read_text()
        (tmp_path / folder / "loss" / "focal.yaml").write_text(shipped.replace("gamma: 2.0", f"gamma: {gamma}"))
    (tmp_path / "second" / "trainer").mkdir()
    base = (conf_dir() / "trainer" / "base.yaml").read_text()
    (tmp_path / "second" / "trainer" / "base.yaml").write_text(base.replace("max_epochs: 20", "max_epochs: 3"))
    folders = [tmp_path / "first", tmp_path / "second"]
    with caplog.at_level("INFO"):
        composed = compose(["loss=focal"], config_dirs=folders, root=tmp_path)
    assert composed.config["loss"]["gamma"] == 5.0
    assert composed.config["trainer"]["max_epochs"] == 3
    assert composed.replaced == ("loss/focal.yaml", "trainer/base.yaml")
    assert f"loss/focal.yaml of {tmp_path / 'first'} is used instead of the shipped one" in caplog.text
    assert f"trainer/base.yaml of {tmp_path / 'second'}" in caplog.text
    assert compose(["loss=cross_entropy"], config_dirs=folders[:1], root=tmp_path).replaced == ()
    assert freeze(composed).replaced == composed.replaced


def test_a_config_yaml_of_the_users_own_must_hold_what_the_shipped_one_holds(tmp_path):
    text = (conf_dir() / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("seed: 0 ", "seed: 5 "))
    assert compose([], config_dirs=[tmp_path], root=tmp_path).config["seed"] == 5
    (tmp_path / "config.yaml").write_text("defaults: [{dataset: synthetic}, {paths: default}]\nseed: 1\n")
    with pytest.raises(ConfigError, match=r"config\.yaml in your own config\.yaml, but it lacks split, augmentation"):
        compose([], config_dirs=[tmp_path], root=tmp_path)


@pytest.fixture
def read(monkeypatch):
    """The choices of options that were read from files, one entry each time."""
    found = []
    original = compose_module.hydra_compose

    def noting(name, overrides, **options):
        found.append(overrides[1:])
        return original(name, overrides, **options)

    monkeypatch.setattr(compose_module, "_KEPT", {})
    monkeypatch.setattr(compose_module, "hydra_compose", noting)
    return found


def test_files_of_the_same_options_are_read_once_in_a_process(read, tmp_path):
    words = ("loss=focal", "loss.gamma=3", "tags.mine=a")
    first = composed(*words, root=tmp_path / "first")
    before = copy.deepcopy(first)
    second = composed("loss=focal", "loss.gamma=4", root=tmp_path / "${x} 'second'")
    assert read == [["loss=focal"]]
    assert first == before
    assert (second["loss"]["gamma"], second["tags"]) == (4, {})
    assert second["paths"]["root"] == str(tmp_path / "${x} 'second'")
    assert second["paths"]["live"] == str(tmp_path / "${x} 'second'" / "mlruns" / "live")
    first["loss"]["gamma"] = 7  # whatever is done with what was composed
    assert composed(*words, root=tmp_path / "first") == before
    composed("loss=cross_entropy", root=tmp_path)
    assert read == [["loss=focal"], ["loss=cross_entropy"]]
    compose_module._KEPT.clear()
    assert composed("loss=focal", "loss.gamma=4", root=tmp_path / "${x} 'second'") == second


def test_a_file_that_was_changed_is_read_again(read, tmp_path):
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    assert composed("loss=focal", conf=conf)["loss"]["gamma"] == 2.0
    text = (conf / "loss" / "focal.yaml").read_text()
    (conf / "loss" / "focal.yaml").write_text(text.replace("gamma: 2.0", "gamma: 5.0"))
    assert composed("loss=focal", conf=conf)["loss"]["gamma"] == 5.0
    assert len(read) == 2


def test_files_that_refer_to_the_environment_are_read_each_time(read, tmp_path, monkeypatch):
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    preset = "# @package _global_\ndefaults:\n  - override /loss: ${oc.env:CHOSEN_LOSS}\n"
    (conf / "experiment" / "mine.yaml").write_text(preset)
    for name, target in (("focal", "Focal"), ("ldam", "LDAM")):
        monkeypatch.setenv("CHOSEN_LOSS", name)
        assert composed("experiment=mine", conf=conf)["loss"]["_target_"].endswith(f".{target}")
    assert len(read) == 2

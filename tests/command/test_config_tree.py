from lesion_exp.command.config_tree import show_config

CONFIG = {
    "seed": 3,
    "paths": {"root": "/here"},
    "dataset": {"_target_": "lesion_exp.dataset.ph2.read_ph2", "root": "/data", "limit": None, "columns": {}},
    "augmentation": {"preprocess": {}, "transforms": {"flip": {"_target_": "albumentations.D4", "p": 1.0}}, "size": 64},
}


def test_the_tree_shows_every_group_with_its_values(capsys):
    show_config(CONFIG, ["dataset.limit=null"])
    shown = capsys.readouterr().err
    assert "seed=3" in shown
    assert "/here" not in shown
    assert "read_ph2 root=/data limit=null" in shown
    assert "transforms(flip(D4 p=1.0)) size=64" in shown
    assert shown.count("(") == shown.count(")")


def test_a_verb_that_trains_nothing_shows_its_own_groups(capsys):
    show_config(CONFIG, [], only=("dataset",))
    shown = capsys.readouterr().err
    assert "seed=3" in shown
    assert "read_ph2" in shown
    assert "augmentation" not in shown


def shown_differences(capsys, change, overrides):
    changed = {key: dict(value) if isinstance(value, dict) else value for key, value in CONFIG.items()}
    change(changed)
    show_config(changed, overrides, defaults=CONFIG)
    return capsys.readouterr().err


def test_only_what_differs_from_the_defaults_is_shown(capsys):
    def change(config):
        config["seed"] = 4
        config["dataset"] = {"_target_": "lesion_exp.dataset.ham10000.read_ham10000", "root": "/data", "limit": 50}

    shown = shown_differences(capsys, change, ["seed=4"])
    assert "seed=4" in shown
    assert "read_ham10000 limit=50" in shown
    assert "augmentation" not in shown
    assert "root=/data" not in shown
    assert "--full-tree" in shown


def test_what_was_taken_out_is_named_and_nothing_is_said_to_be_nothing(capsys):
    def change(config):
        config["augmentation"] = {"preprocess": {}, "transforms": {}, "size": 64}

    assert "transforms(without flip)" in shown_differences(capsys, change, ["~augmentation.transforms.flip"])
    assert "it is as in conf/" in shown_differences(capsys, lambda config: None, [])


def test_all_that_was_taken_out_is_named_at_the_end(capsys):
    transforms = {"flip": {"p": 1.0}, "rotate": {"p": 0.5}, "hue": {"p": 0.2}}
    show_config({"a": {"hue": {"p": 0.1}}}, [], defaults={"a": transforms, "seed": 1})
    shown = capsys.readouterr().err
    assert "hue(p=0.1) without flip, rotate" in shown
    assert "without seed" in shown

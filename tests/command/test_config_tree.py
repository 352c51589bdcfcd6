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

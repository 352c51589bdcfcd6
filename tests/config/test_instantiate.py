import pytest

from lesion_exp.config.instantiate import check_installed, check_targets, instantiate, resolve_target
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.errors import ConfigError
from lesion_exp.loss.focal import Focal
from lesion_exp.split.kfold import KFold

KFOLD = {
    "_target_": "lesion_exp.split.kfold.KFold",
    "seed": 0,
    "num_folds": 5,
    "fold": 1,
    "val_ratio": 0.15,
}

FOCAL = {"_target_": "lesion_exp.loss.focal.Focal", "gamma": 2.0, "class_counts": [1, 2]}


@pytest.fixture(autouse=True)
def no_trust(monkeypatch):
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "torch.load",
        "pandas.read_pickle",
        "builtins.eval",
        "lesion_exp.image_file.os.system",
        "lesion_exp.split.file.Path",
        "lesion_exp.split.file.pd.read_pickle",
        "lesion_exp.dataset.ham10000.pd.read_pickle",
        "lesion_exp.training.run.train",
        "lesion_expert.split.kfold.KFold",
        "torch.optim.lr_scheduler.partial",
        "torchvision.transforms.functional.resize",
        "albumentations.load",
        "lesion_exp.split.kfold.__builtins__",
        "KFold",
        "",
        3,
        None,
    ],
)
def test_code_from_elsewhere_is_refused(target):
    with pytest.raises(ConfigError, match="expected"):
        instantiate({"_target_": target}, "loss")
    with pytest.raises(ConfigError, match="expected"):
        check_targets({"loss": {"_target_": target}})


def test_a_refused_target_is_not_called(tmp_path):
    with pytest.raises(ConfigError, match=r"os\.system"):
        instantiate({**KFOLD, "seed": {"_target_": "os.system", "command": f"touch {tmp_path / 'called'}"}}, "split")
    assert not (tmp_path / "called").exists()


def test_a_target_is_called_with_its_keys_and_what_is_passed():
    splitter = instantiate({key: value for key, value in KFOLD.items() if key != "fold"}, "split", fold=2)
    assert isinstance(splitter, KFold)
    assert (splitter.fold, splitter.num_folds) == (2, 5)


def test_a_wrong_key_names_the_nearest_parameter():
    with pytest.raises(ConfigError, match=r"split\.num_fold; did you mean 'num_folds'"):
        instantiate({**KFOLD, "num_fold": 3}, "split")
    with pytest.raises(ConfigError, match=r"split\.num_fold; did you mean 'num_folds'"):
        check_targets({"split": {**KFOLD, "num_fold": 3}})


def test_a_wrong_class_names_the_nearest_of_its_module():
    for name in ("lesion_exp.split.kfold.Kfold", "lesion_exp.split.kfolds.KFold"):
        with pytest.raises(ConfigError, match=r"did you mean 'lesion_exp\.split\.kfold\.KFold'"):
            resolve_target(name, "split")


def test_a_missing_parameter_is_named():
    with pytest.raises(ConfigError, match="'fold'"):
        instantiate({key: value for key, value in KFOLD.items() if key != "fold"}, "split")


def test_a_class_that_leaves_a_method_open_is_refused_with_its_name(tmp_path, monkeypatch):
    (tmp_path / "my_open_loss_of_the_test.py").write_text(
        "from lesion_exp.loss.base import Loss\n\nclass Open(Loss):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(TRUST_VARIABLE, "my_open_loss_of_the_test")
    with pytest.raises(
        ConfigError, match="to define the abstract methods of its base class, but compute is not defined"
    ):
        instantiate({"_target_": "my_open_loss_of_the_test.Open"}, "loss")


def test_what_the_job_passes_cannot_be_in_the_config():
    with pytest.raises(ConfigError, match="without fold, which the job computes from the data"):
        instantiate(KFOLD, "split", fold=1)


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_recursive_", "_convert_"])
def test_hydras_own_keys_are_refused(key):
    with pytest.raises(ConfigError, match=key):
        instantiate({**KFOLD, key: True}, "split")


def test_keys_that_the_job_reads_may_stand_beside_the_parameters():
    config = {"split": {**KFOLD, "part": "test"}}
    check_targets(config, {"split": {"part"}})
    with pytest.raises(ConfigError, match=r"split\.part"):
        check_targets(config)


def test_nodes_inside_are_made_first_and_containers_are_plain_copies():
    node = {
        "_target_": "albumentations.OneOf",
        "transforms": [{"_target_": "albumentations.HorizontalFlip", "p": 1.0}],
        "p": 0.5,
    }
    made = instantiate(node, "augmentation.transforms.flip")
    assert made.transforms[0].p == 1.0
    assert isinstance(node["transforms"][0], dict)


def test_a_value_that_a_library_refuses_is_the_users_mistake():
    with pytest.raises(ConfigError, match=r"albumentations\.HorizontalFlip accepts"):
        instantiate({"_target_": "albumentations.HorizontalFlip", "p": "often"}, "augmentation.transforms.flip")


def test_a_node_without_a_target_is_refused():
    for node in ({}, {"lr": 1}, None, "loss"):
        with pytest.raises(ConfigError, match="_target_"):
            instantiate(node, "loss")


def test_a_package_is_trusted_by_the_environment_never_by_a_config(tmp_path, monkeypatch):
    (tmp_path / "my_losses_of_the_test.py").write_text(
        "class Mine:\n    def __init__(self, power):\n        self.power = power\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    node = {"_target_": "my_losses_of_the_test.Mine", "power": 2}
    with pytest.raises(ConfigError, match=TRUST_VARIABLE):
        instantiate(node, "loss")
    monkeypatch.setenv(TRUST_VARIABLE, "other, my_losses_of_the_test")
    assert instantiate(node, "loss").power == 2
    both = instantiate({**node, "power": {**node, "power": FOCAL}}, "loss")
    assert isinstance(both.power.power, Focal), "inside a trusted node the options of its group may stand"
    with pytest.raises(ConfigError, match=r"an option of split, in loss\.power\._target_"):
        instantiate({**node, "power": KFOLD}, "loss")


@pytest.mark.parametrize(
    "name", ["os", "os.path", "subprocess", "builtins", "lesion_exp", "lesion_exp.job", "my-package", "a b"]
)
def test_python_itself_cannot_be_trusted(monkeypatch, name):
    monkeypatch.setenv(TRUST_VARIABLE, name)
    with pytest.raises(ConfigError, match="to trust"):
        resolve_target("os.system", "loss")


def test_where_something_is_defined_counts_not_where_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "my_imports_of_the_test.py").write_text("from datetime import date\nfrom shutil import rmtree\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(TRUST_VARIABLE, "my_imports_of_the_test")
    for name in ("date", "rmtree"):
        with pytest.raises(ConfigError, match="defined in"):
            resolve_target(f"my_imports_of_the_test.{name}", "loss")


def test_a_package_that_is_not_installed_is_missed_before_anything_is_built(monkeypatch):
    config = {"optimizer": {"_target_": "lesion_exp.optimizer.extra.lion", "lr": 1e-4}}
    monkeypatch.setattr("lesion_exp.optimizer.extra.PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"expected the package no_such_package for the optimizer lion.*pip install"):
        check_installed(config)
    monkeypatch.setattr("lesion_exp.optimizer.extra.PACKAGE", "torch")
    check_installed(config)

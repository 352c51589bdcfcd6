import inspect
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lesion_exp.config.compatibility import check_complete
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import FORMAT, NOT_HASHED, SHARE_OR_COUNT, freeze, job_hash, read_job
from lesion_exp.config.instantiate import resolve_target
from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.errors import ConfigError

COMBINED = "dataset.sets={ph2: %s, ham10000: {root: %s, parts: [train]}}"


def job(*overrides, root="/project"):
    return freeze(compose(overrides, root=Path(root)))


def test_a_written_job_is_read_back_as_it_was(tmp_path):
    made = job("loss=focal", "seed=3", "tags.cohort=pilot", "dataset.filter='sex != \"unknown\" # x'")
    path = tmp_path / "new" / "job.yaml"
    made.write(path)
    assert read_job(path) == made
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["job.yaml"]


def test_a_job_from_before_there_were_models_is_read_and_makes_none(tmp_path):
    made = job("tracking.log_model=true")
    older = {key: value for key, value in made.config["tracking"].items() if key != "log_model"}
    replace(made, config={**made.config, "tracking": older}).write(tmp_path / "job.yaml")
    config = read_job(tmp_path / "job.yaml").config
    assert config["tracking"]["log_model"] is False
    check_complete(config)


@pytest.mark.parametrize("overrides", [(), ("pretrain=simclr",)])
def test_a_job_from_before_the_metric_of_the_best_epoch_could_be_chosen_is_read_with_its_hash(tmp_path, overrides):
    made = job(*overrides)
    older = {key: value for key, value in made.config["trainer"].items() if key != "monitor"}
    older_config = {**made.config, "trainer": older}
    assert job_hash(older_config, {}) == made.job_hash
    replace(made, config=older_config).write(tmp_path / "job.yaml")
    assert read_job(tmp_path / "job.yaml") == made
    assert job(*overrides, "trainer.monitor=val/accuracy").job_hash != made.job_hash


def test_a_job_from_before_class_folders_could_be_mapped_is_read_with_its_hash(tmp_path):
    made = job("dataset=folder", "dataset.root=/x")
    older = {
        **made.config,
        "dataset": {key: made.config["dataset"][key] for key in made.config["dataset"] if key != "labels"},
    }
    assert job_hash(older, {}) == made.job_hash
    replace(made, config=older).write(tmp_path / "job.yaml")
    assert read_job(tmp_path / "job.yaml").job_hash == made.job_hash
    assert job("dataset=folder", "dataset.root=/x", "dataset.labels={a: mel}").job_hash != made.job_hash


def test_a_job_names_the_option_of_each_group(tmp_path):
    (tmp_path / "loss").mkdir()
    shutil.copy(conf_dir() / "loss" / "focal.yaml", tmp_path / "loss" / "mine.yaml")
    composed = compose(["loss=mine", "sampler=weighted"], config_dirs=[tmp_path], root=Path("/project"))
    made = freeze(composed)
    assert (made.options["loss"], made.options["sampler"], made.options["split"]) == ("mine", "weighted", "grouped")
    assert not {"launcher", "search", "experiment"} & set(made.options), "a job has none of them"
    assert made.job_hash == job("loss=focal", "sampler=weighted").job_hash, "what counts is the config"
    changed = job("loss=cross_entropy", "loss._target_=my_package.Mine")
    assert changed.options["loss"] == "Mine"


def test_a_job_of_an_earlier_version_has_options_named_by_their_targets(tmp_path):
    path = tmp_path / "job.yaml"
    job("loss=focal", "optimizer=adamw").write(path)
    body = yaml.safe_load(path.read_text())
    del body["options"]
    path.write_text(yaml.safe_dump(body, sort_keys=False))
    read = read_job(path)
    assert (read.options["loss"], read.options["optimizer"], read.options["split"]) == ("focal", "AdamW", "grouped")


@pytest.mark.parametrize(
    ("overrides", "in_sweep", "expected"),
    [([], False, True), ([], True, False), (["tracking.log_model=true"], True, True)],
)
def test_one_run_makes_a_model_and_a_cell_of_a_sweep_none(overrides, in_sweep, expected):
    config = compose(overrides, root=Path("/project"), in_sweep=in_sweep).config
    assert config["tracking"]["log_model"] is expected


def test_writing_again_replaces_the_file(tmp_path):
    path = tmp_path / "job.yaml"
    for seed in (1, 2):
        job(f"seed={seed}").write(path)
    assert read_job(path).config["seed"] == 2


def test_a_job_does_not_change_with_the_config_it_was_made_from():
    composed = compose([], root=Path("/project"))
    made = freeze(composed)
    composed.config["loader"]["batch_size"] = 1
    assert job_hash(made.config, {}) == made.job_hash


@pytest.mark.parametrize(
    "overrides",
    [
        ["loader.num_workers=3"],
        ["loader.evaluation_batch_size=7"],
        ["tags.cohort=pilot"],
        ["tracking.experiment=other"],
        ["tracking.log_images=true"],
        ["trainer.log_every_n_steps=2"],
        ["print_config=false"],
    ],
)
def test_what_cannot_change_a_result_is_not_hashed(overrides):
    assert job(*overrides).job_hash == job().job_hash


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "split.seed=1",
        "dataset.seed=1",
        "backbone=resnet50",
        "optimizer.lr=2.0e-3",
        "image_size=96",
        "loader.batch_size=16",
        "trainer.max_epochs=3",
        "test=false",
        "~augmentation.transforms.rotate",
    ],
)
def test_what_can_change_a_result_is_hashed(override):
    assert job(override).job_hash != job().job_hash


def test_a_new_key_leaves_the_hash_of_jobs_without_it():
    """A new key belongs in `LATER_KEYS`, since runs of earlier versions are found by the hash of their job."""
    job = freeze(compose(["experiment=ham10000_cpu", "dataset.root=/data"], root=Path("/project")))
    assert job.job_hash == "21fd3a6a33adea19"


def test_the_seed_of_a_draw_counts_if_anything_is_drawn(tmp_path):
    assert job("split.train_share=0.5", "split.share_seed=1").job_hash != job("split.train_share=0.5").job_hash
    made = job("split.share_seed=1")
    assert made.job_hash == job("split.train_share=1", "split.share_seed=2").job_hash == job().job_hash
    older = replace(made, job_hash=job_hash(made.config, {}, unused_seed=True))
    assert older.job_hash != made.job_hash
    older.write(tmp_path / "job.yaml")
    assert read_job(tmp_path / "job.yaml") == made


def test_networks_that_gave_the_mean_of_their_patches_before_are_other_jobs(tmp_path):
    made = job("backbone=timm", "backbone.name=vit_small_patch16_dinov3_qkvb")
    older = replace(made, job_hash=job_hash(made.config, {}, class_token=False))
    assert older.job_hash != made.job_hash
    older.write(tmp_path / "job.yaml")
    assert read_job(tmp_path / "job.yaml") == made
    for name in ("vit_small_patch14_dinov2", "convnext_tiny.dinov3_lvd1689m"):
        other = job("backbone=timm", f"backbone.name={name}")
        assert job_hash(other.config, {}, class_token=False) == other.job_hash


def test_the_place_of_the_data_and_of_the_project_is_not_hashed():
    ham = [job("dataset=ham10000", f"dataset.root={folder}", root=folder).job_hash for folder in ("/a", "/b")]
    assert ham[0] == ham[1]
    combined = [job("dataset=combined", COMBINED % (folder, folder)).job_hash for folder in ("/a", "/b")]
    assert combined[0] == combined[1]
    other = job("dataset=combined", COMBINED.replace("train", "train,test") % ("/a", "/a"))
    assert other.job_hash != combined[0]


def test_the_hash_does_not_depend_on_the_order_of_keys_and_leaves_the_config_alone():
    config = job().config
    turned = dict(reversed(config.items()))
    assert job_hash(turned, {}) == job_hash(config, {})
    assert all(key.split(".")[0] in config for key in NOT_HASHED if key != "launcher")


def test_the_order_of_the_transforms_and_nothing_else_of_the_order_counts():
    config = job().config
    transforms = config["augmentation"]["transforms"]
    config["augmentation"]["transforms"] = dict(reversed(transforms.items()))
    assert job_hash(config, {}) != job().job_hash


def test_a_number_is_the_same_however_it_is_written():
    assert job("optimizer.weight_decay=1").job_hash == job("optimizer.weight_decay=1.0").job_hash
    assert job("test=true").job_hash != job("test=false").job_hash


@pytest.mark.parametrize(
    "key",
    ["limit_train_batches", "limit_val_batches", "limit_predict_batches", "overfit_batches", "val_check_interval"],
)
def test_one_batch_and_all_batches_are_two_jobs(key):
    one, whole = (job(f"trainer.{key}={value}").job_hash for value in ("1", "1.0"))
    assert one != whole
    assert job(f"trainer.{key}=1.00").job_hash == job(f"trainer.{key}=1e0").job_hash == whole


def test_no_batches_are_no_batches_and_a_rate_of_one_is_one():
    assert job("trainer.overfit_batches=0").job_hash == job("trainer.overfit_batches=0.0").job_hash == job().job_hash
    assert job("optimizer.lr=1").job_hash == job("optimizer.lr=1.0").job_hash


def test_a_hole_of_one_pixel_and_one_of_the_whole_image_are_two_jobs():
    config = job().config
    hashes = set()
    for size in (1, 1.0):
        holes = {"_target_": "albumentations.CoarseDropout", "hole_height_range": [size, size], "p": 1}
        config["augmentation"]["transforms"]["holes"] = holes
        hashes.add(job_hash(config, {}))
    assert len(hashes) == 2


def test_a_package_that_is_not_known_may_tell_whole_numbers_from_others():
    config = job().config
    hashes = [
        job_hash({**config, "loss": {"_target_": target, "steps": steps, "inner": {"steps": [steps]}}}, {})
        for target in ("my_package.MyLoss", "lesion_exp.loss.focal.Focal")
        for steps in (2, 2.0)
    ]
    assert hashes[0] != hashes[1]
    assert hashes[2] == hashes[3]


SAME_MEANING = {"gradient_clip_val", "fill", "bbox_labels"}


def test_every_parameter_that_takes_a_share_or_a_count_is_known():
    import albumentations as A
    from pytorch_lightning import Trainer

    from lesion_exp.config.schema import TRAINER_ARGUMENTS

    def both(function, names=None):
        parameters = inspect.signature(function).parameters.items()
        kinds = {name: set(re.findall(r"\b(?:int|float)\b", str(found.annotation))) for name, found in parameters}
        return {name for name, found in kinds.items() if found == {"int", "float"} and (names is None or name in names)}

    transforms = [
        found for found in vars(A).values() if isinstance(found, type) and issubclass(found, A.BasicTransform)
    ]
    found = both(Trainer.__init__, TRAINER_ARGUMENTS).union(*(both(transform.__init__) for transform in transforms))
    assert found - SAME_MEANING <= SHARE_OR_COUNT
    assert {"limit_train_batches", "hole_height_range"} <= found
    for path in conf_dir().glob("*/*.yaml"):
        target = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("_target_", "")
        if target.startswith("lesion_exp."):
            assert not both(resolve_target(target, path.parent.name)), f"{path.stem} has a parameter with two meanings"


def test_a_job_of_the_format_before_is_read_and_keeps_its_hash_unless_it_was_ambiguous(tmp_path):
    for override, same in (("trainer.limit_train_batches=1", True), ("trainer.limit_train_batches=1.0", False)):
        made = job(override)
        before = job_hash(made.config, {}, kinds=False)
        replace(made, job_hash=before).write(tmp_path / "job.yaml")
        text = (tmp_path / "job.yaml").read_text()
        (tmp_path / "job.yaml").write_text(text.replace(f"format: {FORMAT}", "format: 1"))
        assert read_job(tmp_path / "job.yaml") == made
        assert (before == made.job_hash) is same


def test_the_content_of_a_weights_file_counts_and_not_its_name(tmp_path):
    for name, content in (("a.pth", b"same"), ("b.pth", b"same"), ("c.pth", b"other")):
        (tmp_path / name).write_bytes(content)
    first, copy, other = (job(f"backbone.weights={tmp_path / name}.pth") for name in "abc")
    assert first.job_hash == copy.job_hash != other.job_hash
    (tmp_path / "b.pth").write_bytes(b"changed since")
    first.check_files()
    with pytest.raises(ConfigError, match="other content"):
        copy.check_files()
    (tmp_path / "b.pth").unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        copy.check_files()


def test_a_config_changed_by_hand_is_refused(tmp_path):
    path = tmp_path / "job.yaml"
    job().write(path)
    path.write_text(path.read_text().replace("image_size: 224", "image_size: 64"))
    with pytest.raises(ConfigError, match="its config was changed"):
        read_job(path)


def test_a_job_of_another_format_is_refused(tmp_path):
    path = tmp_path / "job.yaml"
    job().write(path)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "format": 99}))
    with pytest.raises(ConfigError, match="got 99"):
        read_job(path)


@pytest.mark.parametrize(
    "content", [b"", b"a: [", b"\xff\xfe\x00", b"- 1", b"config: 3", b"seed: 1", b"!!python/object/apply:os.getcwd []"]
)
def test_a_file_that_is_no_job_is_refused(tmp_path, content):
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"expected a job.*job\.yaml"):
        read_job(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_job(path)

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from lesion_exp.choices import HEADS
from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.taxonomy import PSEUDO_RUN
from lesion_exp.training import check_training as module
from lesion_exp.training.build import build
from lesion_exp.training.check_training import Trial, check_training, one_source, share_trial, weighed_class
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import check_job
from tests.tiny import TINY


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Checks the training that overrides make, on data that are drawn once; returns the warnings."""
    root = tmp_path_factory.mktemp("check")
    plain = compose(TINY, root=root).config
    whole = split_data(plain, load_data(plain))

    def check(*overrides, parts=None, first=None, few=None):
        table = whole.table
        if parts is not None:
            table = table[table["split"].isin(parts)]
        if first is not None:
            chosen = table[table["split"] == "train"].groupby("label").head(1).index[:first]
            table = table[(table["split"] != "train") | table.index.isin(chosen)]
        if few is not None:
            kept = table[table["split"] == few[0]].index[: few[1]]
            table = table[(table["split"] != few[0]) | table.index.isin(kept)]
        split = replace(whole, table=table.reset_index(drop=True))
        config = compose([*TINY, *overrides], root=root).config
        found = check_training(config, split)
        return (found, build(config, split)) if first is not None else found

    return check


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("trainer.check_val_every_n_epoch=5",), "ends after 4 batches .2 an epoch. and its .* after 10"),
        (("trainer.max_steps=1",), r"trainer\.check_val_every_n_epoch=1 trainer\.val_check_interval=1"),
        (("trainer.limit_val_batches=0",), r"set trainer\.limit_val_batches=1"),
        (("trainer.limit_val_batches=0.01",), r"at least one of 1 batches, got the share 0\.01"),
        (("trainer.limit_train_batches=0.1",), r"set trainer\.limit_train_batches=1 for one batch"),
        (("trainer.val_check_interval=9",), r"at most 2, the batches of an epoch.*check_val_every_n_epoch=5"),
        (
            (
                "trainer.val_check_interval=5",
                "trainer.check_val_every_n_epoch=null",
                "scheduler=plateau",
                "trainer.max_epochs=9",
            ),
            "a validation in each epoch of 2 batches",
        ),
        (("scheduler=plateau", "scheduler.monitor=val/recall/melanoma", "scheduler.mode=max"), "val/recall/mel"),
        (
            ("trainer.early_stopping.patience=3", "trainer.early_stopping.monitor=val/recall/naevus"),
            r"trainer\.early_stopping\.monitor to be a metric",
        ),
        (("trainer.max_epochs=-1", "trainer.max_time=00:00:01:00"), "training with an end for scheduler=cosine"),
        (
            ("trainer.max_epochs=-1", "trainer.max_time=00:00:01:00", "loss=ldam", "scheduler=constant"),
            r"loss\.defer_epoch",
        ),
        (("loader.batch_size=1", "backbone=resnet18"), "batch normalisation of backbone resnet18 at image_size=32"),
        (("backbone=vit_b_16", "image_size=100"), "use 96 or 112"),
        (("backbone=vit_b_16", "image_size=40", "loader.batch_size=1"), "use 32 or 48"),
        (("backbone=densenet121", "image_size=16"), "image_size of at least 32 pixels for densenet121"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_run_is_opened(checked, overrides, says):
    with pytest.raises(ConfigError, match=says):
        checked(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("trainer.max_steps=1", "trainer.check_val_every_n_epoch=1", "trainer.val_check_interval=1"),
        ("trainer.check_val_every_n_epoch=2",),
        ("trainer.check_val_every_n_epoch=2", "scheduler=plateau"),
        ("trainer.max_epochs=-1", "trainer.max_steps=5"),
        ("trainer.max_epochs=-1", "trainer.max_time=00:00:01:00", "scheduler=constant"),
        ("trainer.val_check_interval=4", "trainer.check_val_every_n_epoch=null"),
        ("backbone=vit_b_16", "image_size=96"),
        ("backbone=resnet18", "loader.batch_size=1", "image_size=64"),
        ("backbone.metadata=metablock", "dataset.mask=channel"),
        ("trainer.find_batch_size=true", "trainer.max_steps=1"),
        ("debug=overfit",),
    ],
)
def test_what_can_be_trained_passes_without_a_word(checked, overrides):
    assert checked(*overrides) == []


def test_fewer_images_than_a_batch_are_one_step_with_a_warning(checked):
    (warning,) = checked("loader.batch_size=500")
    assert "images an epoch, fewer than one step of loader.batch_size=500" in warning
    found, made = checked("loader.batch_size=64", "sampler=shuffle", first=7)
    assert "draws 7 images an epoch" in found[0]
    assert [len(batch) for batch in made.datamodule.train_dataloader().batch_sampler.batches(0)] == [7]


def test_a_sampler_by_source_of_one_source_is_warned_of(checked):
    (warning,) = checked("sampler=by_source")
    assert "draws as sampler=shuffle does" in warning
    assert "of one source, synthetic; with dataset=combined" in warning
    assert checked("sampler=by_source", "sampler.power=0") == []
    rows = pd.DataFrame({"source": ["a", "pseudo", "b"], PSEUDO_RUN: [None, "r", None]})
    node = {"_target_": "lesion_exp.sampler.by_source.BySource", "power": 1.0}
    assert one_source(node, SimpleNamespace(parts={"train": rows})) == []
    assert len(one_source(node, SimpleNamespace(parts={"train": rows[:2]}))) == 1


def test_several_processes_share_the_images_that_there_are(checked):
    (warning,) = checked("loader.batch_size=64", "trainer=ddp_cpu")
    assert "loader.batch_size=64 on 2 processes: each epoch is one step of" in warning


def test_several_processes_share_the_cores_of_their_machine_for_loading(checked, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    _, made = checked("loader.num_workers=auto", first=7)
    gpu = SimpleNamespace(root_device=torch.device("cuda"))
    made.datamodule.trainer = SimpleNamespace(num_devices=4, global_rank=0, world_size=4, strategy=gpu)
    assert made.datamodule.val_dataloader().num_workers == 4


def test_a_part_that_is_needed_must_have_images(checked):
    with pytest.raises(DataError, match=r"images in the val part, got none .train"):
        checked(parts=("train", "test"))
    with pytest.raises(DataError, match="or set test=false"):
        checked(parts=("train", "val"))
    assert checked("test=false", parts=("train", "val")) == []


@pytest.mark.parametrize("part", ["val", "test"])
def test_each_process_needs_an_image_of_each_part_that_is_evaluated(checked, part):
    processes = ("trainer=ddp_cpu", "trainer.devices=4")
    checked(*processes, few=(part, 4))
    with pytest.raises(ConfigError, match=rf"at least 4 images in the {part} part, .* got 3; set trainer\.devices=3 "):
        checked(*processes, few=(part, 3))
    checked(*processes, "trainer.devices=3", few=(part, 3))
    if part == "test":
        checked(*processes, "test=false", few=(part, 3))


@pytest.mark.parametrize(
    ("classes", "weight", "warned"),
    [
        (("mel", "nv"), 6, "set loss.pos_weight=0.167 to give mel the greater weight"),
        (("mel", "nv"), 0.2, ""),
        (("benign", "malignant"), 6, ""),
        (("bkl", "mel"), 6, ""),
        (("cancer", "healthy"), 6, ""),
    ],
)
def test_the_class_that_a_weight_is_given_to_is_named_and_a_benign_one_is_warned_of(caplog, classes, weight, warned):
    caplog.set_level("INFO", "lesion_exp")
    node = {"_target_": "lesion_exp.loss.binary_cross_entropy.BinaryCrossEntropy", "pos_weight": weight}
    found = weighed_class(node, classes)
    assert bool(found) == bool(warned)
    assert warned in "".join(found)
    assert f"loss.pos_weight={weight} is the weight of the class {classes[1]}" in caplog.text
    assert weighed_class({**node, "pos_weight": "balanced"}, classes) == []
    student = {"_target_": "lesion_exp.loss.distill.Distill", "labels": node}
    assert len(weighed_class(student, classes)) == len(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("trainer.accelerator=mps", "an Apple GPU"),
        ("trainer.strategy=deepspeed", "Lightning raises"),
        ("trainer.max_time=soon", "Lightning raises"),
        ("trainer.compile=default", "a C\\+\\+ compiler for trainer.compile=default, but there is no no-compiler"),
        ("scheduler=one_cycle scheduler.warmup_fraction=2", "scheduler.warmup_fraction"),
        ("trainer.limit_predict_batches=0.1", r"limit_predict_batches=null, .* got 0\.1; set dataset\.limit=100"),
        ("trainer.limit_predict_batches=1", "limit_predict_batches=null"),
        ("trainer.fast_dev_run=true", "set debug=fast"),
        ("trainer.fast_dev_run=2", "set debug=fast"),
    ],
)
def test_what_needs_no_data_is_checked_before_they_are_read(tiny_job, monkeypatch, change, says):
    monkeypatch.setenv("CXX", "no-compiler")
    with pytest.raises(ConfigError, match=says):
        check_job(tiny_job(*change.split()))


class Patches(nn.Module):
    """A network of another library: it says only in its own words which images it takes."""

    def forward(self, images):
        if images.shape[-1] % 14:
            raise ValueError("Input height should be divisible by patch size 14.")
        return torch.tensor(images.mean(dim=(2, 3)).tolist())  # cannot be run on shapes alone


def test_a_network_that_says_it_in_its_own_words_is_answered_with_sizes_that_fit(tiny_job, monkeypatch):
    monkeypatch.setattr("lesion_exp.model.network.instantiate", lambda *node, **passed: Patches())
    Trial(tiny_job("image_size=42").config, 7, 0, 2).check_now()
    says = "got 40, for which it raises: Input height .* patch size 14.; set image_size=28 or image_size=42"
    with pytest.raises(ConfigError, match=says):
        Trial(tiny_job("image_size=40").config, 7, 0, 2).check_now()


def test_a_network_that_takes_no_image_raises_its_own_error(tiny_job, monkeypatch):
    def broken(*node, **passed):
        raise RuntimeError("its constructor is wrong")

    monkeypatch.setattr("lesion_exp.model.network.instantiate", broken)
    with pytest.raises(RuntimeError, match="its constructor is wrong"):
        Trial(tiny_job().config, 7, 0, 2).check_now()


@pytest.mark.parametrize("head", HEADS)
def test_a_network_that_was_tried_without_computing_is_not_tried_again(tiny_job, monkeypatch, head):
    monkeypatch.setattr(module, "_PASSED", set())
    plain = tiny_job().config
    split = split_data(plain, load_data(plain))
    frozen = ("backbone.tune=head", f"backbone.head={head}", "augmentation=none", "sampler=shuffle")
    with monkeypatch.context() as parent:
        parent.setattr(torch.cuda, "is_available", lambda: pytest.fail("a device was asked for before the fork"))
        parent.setattr(module, "make_datamodule", lambda *_: pytest.fail("it may read images"))
        share_trial(tiny_job(*frozen).config, split)
    monkeypatch.setattr(Trial, "_run", lambda *_: pytest.fail("it was tried again"))
    config = tiny_job(*frozen, "seed=3").config
    check_training(config, split)


def test_a_network_that_cannot_be_tried_without_computing_is_left_to_the_check(tiny_job, monkeypatch):
    monkeypatch.setattr(module, "_PASSED", set())
    monkeypatch.setattr("lesion_exp.model.network.instantiate", lambda *node, **passed: Patches())
    config = tiny_job("image_size=40").config
    share_trial(config, split_data(config, load_data(config)))
    assert not module._PASSED
    with pytest.raises(ConfigError, match="patch size 14"):
        Trial(config, 7, 0, 2).check()


def test_a_network_of_another_package_is_not_tried_for_others(tiny_job, monkeypatch):
    monkeypatch.setattr(Trial, "_run", lambda *_: pytest.fail("it was tried"))
    config = tiny_job().config
    split = split_data(config, load_data(config))
    share_trial({**config, "backbone": {**config["backbone"], "_target_": "my_package.network"}}, split)

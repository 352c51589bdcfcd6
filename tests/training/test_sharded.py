"""Weights that the processes of a run divide among them: `trainer.strategy=fsdp`."""

from pathlib import Path

import pytest
import torch

from lesion_exp.cli import main
from lesion_exp.errors import ConfigError
from lesion_exp.model.checkpoint_file import read_checkpoint
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from lesion_exp.training import trainer
from lesion_exp.training.run import check_job, train
from lesion_exp.training.sharded import ShardedStrategy, check_shardable, check_sharding
from lesion_exp.training.trainer import check_trainer
from lesion_exp.verbs.resume import resume
from tests.backbone.test_backbones import build
from tests.verbs.resume.test_resume import ended_after_an_epoch

VIT = ("backbone=timm", "backbone.name=test_vit")
TWO = (
    *VIT, "trainer=ddp_cpu", "trainer.devices=2", "trainer.strategy=fsdp", "trainer.max_epochs=3",
    "trainer.gradient_clip_val=1.0", "trainer.activation_checkpointing=true", "loader.batch_size=8",
    "backbone.dropout=0.1", "tracking.log_images=false",
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ("trainer.ema_decay=0.9", "trainer.ema_decay=null"),
        ("trainer.compile=default", "trainer.compile=none"),
        ("backbone.tune=head", "backbone.tune=full"),
        ("backbone.tune=lora", "backbone.tune=full"),
        ("backbone.tune=last:2", "backbone.tune=full"),
        ("backbone.freeze_epochs=1", "backbone.freeze_epochs=0"),
        ("backbone.metadata=concat", "backbone.metadata=none"),
        ("dataset.view=both", "dataset.view=dermoscopic"),
        ("optimizer=lamb", "optimizer=adamw"),
    ],
)
def test_what_does_not_work_with_parts_of_weights_is_refused(tiny_job, changed, remedy):
    check_sharding(tiny_job(*TWO, changed, remedy).config)
    with pytest.raises(ConfigError, match=f"expected a training .* set {remedy}, or use trainer.strategy=ddp"):
        check_sharding(tiny_job(*TWO, changed).config)
    check_sharding(tiny_job(*TWO, changed, "trainer.strategy=ddp").config)


def test_a_pretraining_is_refused(tiny_job):
    with pytest.raises(ConfigError, match=r"set pretrain=null, or use trainer\.strategy=ddp"):
        check_sharding({**tiny_job(*TWO).config, "pretrain": {"parts": "train"}})


def test_a_job_is_checked_before_its_data_are_read(tiny_job):
    check_job(tiny_job(*TWO), here=False)
    with pytest.raises(ConfigError, match=r"set trainer\.ema_decay=null"):
        check_job(tiny_job(*TWO, "trainer.ema_decay=0.9"), here=False)


def test_networks_without_blocks_or_with_batch_normalisation_are_refused():
    check_shardable(build("timm", 32, name="vit_tiny_patch16_224"))
    with pytest.raises(ConfigError, match="expected a transformer"):
        check_shardable(build("small_cnn"))
    with pytest.raises(ConfigError, match="without batch normalisation"):
        check_shardable(build("maxvit_t", 224))


def test_one_process_has_nothing_to_divide(tiny_job):
    node = tiny_job(*TWO).config["trainer"]
    assert isinstance(check_trainer(node).strategy, ShardedStrategy)
    assert not isinstance(check_trainer({**node, "devices": 1}).strategy, ShardedStrategy)


def test_fp16_is_refused_where_it_cannot_be_sharded(tiny_job, monkeypatch):
    node = tiny_job(*TWO).config["trainer"]
    monkeypatch.setattr(
        trainer, "resolve_precision", lambda precision, _: "16-mixed" if precision == "auto" else precision
    )
    with pytest.raises(ConfigError, match=r"got 16-mixed, .* set trainer\.precision=32-true") as refused:
        trainer.build_trainer({**node, "precision": "auto"}, False, Path(), [])
    assert "trainer=cpu" not in str(refused.value)
    trainer.build_trainer({**node, "precision": "32-true"}, False, Path(), [])
    trainer.build_trainer({**node, "precision": "auto", "devices": 1, "strategy": "auto"}, False, Path(), [])


def weights_of(run):
    return read_checkpoint(download_artifact(run, "checkpoints/last.ckpt"))


def assert_close(one, other, tolerance):
    assert list(one) == list(other)
    for name, values in one.items():
        torch.testing.assert_close(values, other[name], rtol=0, atol=tolerance, msg=name)


@pytest.mark.slow
@pytest.mark.usefixtures("own_process")
def test_a_sharded_run_is_that_of_whole_weights_and_can_be_resumed(tiny_job, tmp_path, monkeypatch):
    job = tiny_job(*TWO, root=tmp_path)
    stopped = ended_after_an_epoch(job, tmp_path)
    assert resume(stopped, job.project).run_id == stopped.run_id
    plain = ("trainer.strategy=ddp", "trainer.activation_checkpointing=false", "tracking.log_model=false")
    whole = tiny_job(*TWO, *plain, root=tmp_path)
    sharded, reference = (find_run(job.project.store, name) for name in (stopped.run_id, train(whole).run_id))
    found, expected = weights_of(sharded), weights_of(reference)
    assert_close(found["state_dict"], expected["state_dict"], 2e-3)
    states, others = (content["optimizer_states"][0] for content in (found, expected))
    assert states["param_groups"] == others["param_groups"]
    for number, state in others["state"].items():
        assert_close(states["state"][number], state, 1e-5)
    # each image is predicted once, though the processes have different numbers of batches
    for part in ("val", "test"):
        predicted, others = (read_predictions(run, part).set_index("image_id") for run in (sharded, reference))
        assert sorted(predicted.index) == sorted(others.index)
    # the checkpoint is one of a network like any other
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", f"run={sharded.run_id}", "--json"]) == 0


@pytest.mark.slow
@pytest.mark.long
def test_a_sharded_run_goes_on_in_one_process_and_a_whole_one_in_parts(tiny_job, tmp_path):
    job = tiny_job(*TWO, root=tmp_path)
    expected = weights_of(find_run(job.project.store, train(job).run_id))
    stopped = ended_after_an_epoch(job, tmp_path)
    resume(stopped, job.project, num_processes=1)
    assert_close(weights_of(stopped)["state_dict"], expected["state_dict"], 2e-3)

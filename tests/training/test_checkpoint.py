"""Checkpoints within an epoch: where they are saved, and how other processes go on from them."""

from fractions import Fraction
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError
from lesion_exp.training.build import build
from lesion_exp.training.checkpoint import COUNTED, LAST, ResumePoints
from lesion_exp.training.data import load_data, split_data
from tests.tiny import TINY

STEPS_AN_EPOCH = 5
"""Each has a batch of 8 images on two processes, or two of them on one; images that fill no step are left out."""


class Seen(Callback):
    """Remembers the images of each batch with the step, its number and the seed, and the epochs of validations."""

    def __init__(self):
        self.batches, self.validations = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        seed = pl_module._step_seed(batch_idx)
        self.batches.append((trainer.global_step, batch_idx, seed, batch["index"].tolist()))

    def on_validation_end(self, trainer, *_):
        self.validations.append(trainer.current_epoch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a job of two processes in this one for three epochs; returns the steps of the optimizer as well."""
    root = tmp_path_factory.mktemp("checkpoints")
    config = compose([*TINY, "loader.batch_size=8", "scheduler=one_cycle"], root=root).config
    split = split_data(config, load_data(config))
    config["loader"]["together"] = 2  # as a run on other processes has it

    def train(*callbacks, checkpoint=None):
        made, seen = build(config, split), Seen()
        made.classifier.job_processes = 2
        trainer = pl.Trainer(
            accelerator="cpu", default_root_dir=root, use_distributed_sampler=False, max_epochs=3, logger=False,
            accumulate_grad_batches=2, callbacks=[seen, *callbacks], enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(made.classifier, datamodule=made.datamodule, ckpt_path=checkpoint, weights_only=True)
        return seen, made.classifier.state_dict(), trainer.global_step

    return train


def as_of_two_processes(content):
    """The checkpoint that two processes would have saved where one did: each has trained half of the batches."""
    assert content[COUNTED] == "2"
    progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for scope in ("total", "current"):
        counts = progress[scope]
        trained = counts["processed"] // 2
        assert counts["completed"] == counts["processed"] - 1, "as Lightning counts at the end of a batch"
        progress[scope] = {"ready": trained, "started": trained, "processed": trained, "completed": trained - 1}
    return {**content, COUNTED: "1"}


@pytest.mark.parametrize("step", [1, 4, STEPS_AN_EPOCH + 2])
def test_one_process_goes_on_within_an_epoch_of_two(trained, tmp_path, step):
    class Keep(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == step and not (tmp_path / "kept.ckpt").exists():
                content = torch.load(tmp_path / LAST, weights_only=True)
                assert content["global_step"] == step
                torch.save(as_of_two_processes(content), tmp_path / "kept.ckpt")

    whole, weights, num_steps = trained(ResumePoints(tmp_path, 1, None), Keep())
    rest, resumed, num_resumed = trained(ResumePoints(tmp_path / "new", 1, None), checkpoint=tmp_path / "kept.ckpt")
    assert rest.batches == whole.batches[2 * step :]
    assert rest.validations == whole.validations[step // STEPS_AN_EPOCH :]
    assert num_resumed == num_steps == 3 * STEPS_AN_EPOCH
    assert all(torch.equal(resumed[name], values) for name, values in weights.items())


def test_no_checkpoint_is_saved_between_two_batches_of_a_step(trained, tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(
        ResumePoints,
        "_save",
        lambda self, trainer: counts.append(trainer.fit_loop.epoch_loop.batch_progress.total.ready),
    )
    trained(ResumePoints(tmp_path, None, 0.0))  # one is due at each batch
    assert len(counts) >= 3 * (STEPS_AN_EPOCH - 1)
    assert not [count for count in counts if count % 2]


def loaded(steps, before, after, *, within):
    """The counters of `after` processes, from those that `before` of a job of 4 had after so many steps."""
    size = Fraction(4, before) if 4 % before == 0 else Fraction(1)
    trained = int(steps * size)
    counts = {"ready": trained, "started": trained, "processed": trained, "completed": trained - within}
    state = {
        "epoch_progress": {"total": {"completed": 0, "ready": 1}},
        "epoch_loop.batch_progress": {"total": counts, "current": dict(counts), "is_last_batch": False},
    }
    here = Fraction(4, after) if 4 % after == 0 else Fraction(1)
    module = SimpleNamespace(batches_per_batch=here, asked_processes=4, trainer=SimpleNamespace(world_size=after))
    content = {"loops": {"fit_loop": state}, COUNTED: str(size)}
    ResumePoints.on_load_checkpoint(None, module.trainer, module, content)
    return state["epoch_loop.batch_progress"]


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("after", [1, 2, 4, 8])
@pytest.mark.parametrize("before", [1, 2, 4, 8])
def test_counters_are_those_that_the_other_processes_would_have(before, after, within):
    found, wanted = (loaded(3, one, after, within=within) for one in (before, after))
    assert found == wanted
    assert found["total"]["completed"] == found["total"]["processed"] - within


def test_a_place_within_a_step_names_the_processes_that_can_go_on():
    with pytest.raises(ConfigError, match=r"within a step, .* 4 processes cannot go on; start 1, as before"):
        loaded(Fraction(3, 4), 1, 4, within=True)
    assert loaded(Fraction(3, 4), 1, 1, within=True)["total"]["processed"] == 3

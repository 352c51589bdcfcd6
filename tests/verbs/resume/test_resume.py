import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.model.checkpoint_file import is_whole, weights_hash
from lesion_exp.process.distributed_environment import environment_without_rank
from lesion_exp.task import LesionClassifier
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.lightning_logger import TrackingLogger
from lesion_exp.tracking.stored_run import artifact_names, download_artifact, read_predictions
from lesion_exp.training import started_run, tracked
from lesion_exp.training.build import make_datamodule
from lesion_exp.training.checkpoint import BEFORE_LAST, LAST, newest_checkpoint
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from lesion_exp.verbs.resume import resume
from tests.killed import killed
from tests.pictures import without_pictures

pytestmark = pytest.mark.usefixtures("no_pictures")
QUIET = ("test=false", "tracking.log_images=false", "tracking.log_model=false")
EVERY_STEP = ("trainer.checkpoint_every_steps=1", "trainer.max_epochs=3", "loader.batch_size=16", *QUIET)
STEPS_AN_EPOCH = 5
"""82 training images in whole batches of 16."""
STOPS = (
    (3, "training_step"),
    (STEPS_AN_EPOCH + 1, "training_step"),
    (2 * STEPS_AN_EPOCH, "training_step"),
    (2, "on_validation_epoch_end"),
)
"""In the middle of the first epoch, in the first and the last step of the second, and after a validation."""
VARIANTS = {
    "average, mixing, dropout and one cycle": (
        "augmentation=standard",
        "augmentation.mix.mixup_alpha=0.4",
        "trainer.ema_decay=0.9",
        "backbone.dropout=0.2",
        "scheduler=one_cycle",
    ),
    "plateau, accumulation and a loss that changes with the epoch": (
        "scheduler=plateau",
        "scheduler.patience=0",
        "trainer.accumulate_grad_batches=2",
        "loss=ldam",
        "optimizer=sgd",
    ),
    "steps and frozen layers": (
        "scheduler=step",
        "scheduler.drop_epochs=1",
        "backbone.freeze_epochs=1",
    ),
}


class StoppedError(RuntimeError):
    pass


SHORT = ("trainer.max_epochs=1", "test=false", "tracking.log_images=false")


@pytest.fixture(scope="module")
def short_run(tiny_job):
    """A run of `SHORT` that was never stopped."""
    job = tiny_job(*SHORT)
    with without_pictures():
        return find_run(job.project.store, train(job).run_id)


def stop_at(monkeypatch, step, hook):
    """Lets training fail once, in `hook`, when it has come to its `step`-th call."""
    original = getattr(LesionClassifier, hook)
    calls = []

    def stopping(self, *arguments):
        calls.append(1)
        if len(calls) == step:
            raise StoppedError
        return original(self, *arguments)

    monkeypatch.setattr(LesionClassifier, hook, stopping)
    return lambda: monkeypatch.setattr(LesionClassifier, hook, original)


def history(run, *names):
    """Every point of the metrics, times left out."""
    return {name: [(m.step, m.value) for m in run.store.client.get_metric_history(run.run_id, name)] for name in names}


def outcome(job, run_id):
    run = find_run(job.project.store, run_id)
    hashes = [weights_hash(download_artifact(run, f"checkpoints/{name}.ckpt")) for name in ("best", "last")]
    return hashes, history(run, "train/loss", "val/loss", "val/balanced_accuracy", "best/val/balanced_accuracy")


def resumed(job, run_id):
    return resume(find_run(job.project.store, run_id), job.project)


@pytest.mark.slow
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_run_that_stopped_anywhere_ends_like_one_that_never_did(tiny_job, monkeypatch, variant):
    job = tiny_job(*EVERY_STEP, *VARIANTS[variant])
    with_workers = tiny_job(*EVERY_STEP, *VARIANTS[variant], "loader.num_workers=2")
    whole = outcome(job, train(job).run_id)
    for number, (step, hook) in enumerate(STOPS):
        undo = stop_at(monkeypatch, step, hook)
        with pytest.raises(StoppedError):
            train(with_workers if number == 0 and "augmentation=standard" in VARIANTS[variant] else job)
        undo()
        stopped = find_run(job.project.store, "latest")
        assert stopped.status == "FAILED"
        assert resumed(job, stopped.run_id).run_id == stopped.run_id
        assert outcome(job, stopped.run_id) == whole, (step, hook)
        assert find_run(stopped.store, stopped.run_id).status == "FINISHED"


@pytest.mark.slow
def test_a_resumed_run_trains_with_what_its_finders_found(tiny_job, monkeypatch):
    monkeypatch.setattr("lesion_exp.training.tune.LARGEST_CPU_BATCH", 16)  # else an epoch would be a single step
    job = tiny_job("trainer.find_batch_size=true", "trainer.find_lr=true", "trainer.max_epochs=6", *QUIET)
    whole = outcome(job, train(job).run_id)
    original = LesionClassifier.training_step

    def stopping(self, *arguments):
        if self.current_epoch == 4 and isinstance(self.trainer.logger, TrackingLogger):  # not a finder's own training
            raise StoppedError
        return original(self, *arguments)

    monkeypatch.setattr(LesionClassifier, "training_step", stopping)
    with pytest.raises(StoppedError):
        train(job)
    monkeypatch.setattr(LesionClassifier, "training_step", original)
    monkeypatch.setattr("lesion_exp.training.tune.Tuner", None)  # nothing is to be found a second time
    stopped = find_run(job.project.store, "latest")
    resumed(job, stopped.run_id)
    assert outcome(job, stopped.run_id) == whole


@pytest.mark.slow
def test_a_killed_process_leaves_a_run_that_goes_on(tiny_job, tmp_path):
    job = tiny_job(*EVERY_STEP, "trainer.max_epochs=15", root=tmp_path)
    run = killed(job, tmp_path)
    result = resumed(job, run.run_id)
    reference = train(job)
    assert outcome(job, result.run_id) == outcome(job, reference.run_id)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_in_one_with_the_same_images(tiny_job, tmp_path, monkeypatch):
    job = tiny_job(
        "trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=12", "loader.batch_size=8",
        "tracking.log_images=false", "tracking.log_model=false", root=tmp_path,
    )  # fmt: skip
    run = ended_after_an_epoch(job, tmp_path)
    loops = torch.load(newest_checkpoint(run.live_dir), weights_only=True)["loops"]
    done = loops["fit_loop"]["epoch_progress"]["total"]["completed"]
    assert 1 <= done < 12
    seen: dict[int, list[int]] = {}
    original = LesionClassifier.training_step

    def recording(self, batch, *arguments):
        seen.setdefault(self.current_epoch, []).append(batch["index"].tolist())
        return original(self, batch, *arguments)

    monkeypatch.setattr(LesionClassifier, "training_step", recording)
    assert resume(run, job.project, num_processes=1).run_id == run.run_id
    split = split_data(job.config, load_data(job.config))
    data = make_datamodule(job.config, split)
    assert set(seen) == set(range(done, 12))
    for epoch, batches in seen.items():
        of_ranks = [data._training_batches((rank, 2)).batches(epoch) for rank in range(2)]
        wanted = [sorted(map(data_id(data), first + second)) for first, second in zip(*of_ranks, strict=True)]
        found = [sorted(map(data_id(data), batches[at] + batches[at + 1])) for at in range(0, len(batches), 2)]
        assert found == wanted
    ended = find_run(run.store, run.run_id)
    assert ended.status == "FINISHED"
    for part in ("val", "test"):
        ids = read_predictions(ended, part)["image_id"]
        assert sorted(ids) == sorted(split.table.loc[split.table["split"] == part, "image_id"])
    assert is_whole(download_artifact(ended, "checkpoints/best.ckpt"))


def data_id(data):
    """The image of a position of the training part."""
    return data.parts["train"]["image_id"].tolist().__getitem__


def ended_after_an_epoch(job, root):
    """The run of `job` in the project at `root`, ended by SIGTERM after its first epoch."""
    job.project.opened()  # the process would take seconds to make the tables of the store
    job.write(root / "job.yaml")
    command = [sys.executable, "-m", "lesion_exp", "train", "job=job.yaml"]
    environment = environment_without_rank()
    with subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, env=environment) as process:
        while not list((root / "mlruns" / "live").glob(f"*/{LAST}")):
            assert process.poll() is None, "the run ended before it could be stopped"
            time.sleep(0.02)
        process.terminate()
        process.wait(timeout=120)
    run = find_run(job.project.store, "latest")
    assert run.status == "KILLED"
    return run


@pytest.mark.slow
def test_a_run_stopped_before_its_first_step_and_after_its_last_goes_on(tiny_job, monkeypatch):
    job = tiny_job("trainer.max_epochs=1", "test=true")
    whole = outcome(job, train(job).run_id)
    for hook in ("on_train_start", "predict_step"):
        undo = stop_at(monkeypatch, 1, hook)
        with pytest.raises(StoppedError):
            train(job)
        undo()
        run_id = find_run(job.project.store, "latest").run_id
        resumed(job, run_id)
        assert outcome(job, run_id) == whole


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["_write_job", "log_inputs", "describe_resolved"])
def test_a_run_killed_right_after_it_was_made_gets_all_that_it_lacks(tiny_job, short_run, monkeypatch, lost):
    job = tiny_job(*SHORT)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tracked if lost == "_write_job" else started_run, lost, die)
        with pytest.raises(KeyboardInterrupt):
            train(job)
    stopped = find_run(job.project.store, "latest")
    assert stopped.status == "KILLED"
    resumed(job, stopped.run_id)
    run = find_run(stopped.store, stopped.run_id)
    assert run.status == "FINISHED"
    assert {**run.params, "tracking.uri": "null"} == short_run.params  # resuming names the store
    assert artifact_names(run) == artifact_names(short_run)
    assert not [name for name in run.tags if name.startswith("mlflow.job")]
    assert outcome(job, run.run_id) == outcome(job, short_run.run_id)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["the best", "all best"])
def test_a_run_whose_best_checkpoints_are_lost_takes_what_there_is(tiny_job, monkeypatch, caplog, lost):
    job = tiny_job("trainer.max_epochs=3", *QUIET)
    undo = stop_at(monkeypatch, 1, "predict_step")
    with pytest.raises(StoppedError):
        train(job)
    undo()
    stopped = find_run(job.project.store, "latest")
    files = sorted(stopped.live_dir.glob("best-*.ckpt"))
    assert len(files) == 2
    values = [value for _, value in sorted(history(stopped, "val/balanced_accuracy")["val/balanced_accuracy"])]
    epochs = {path: torch.load(path, weights_only=True)["epoch"] for path in files}
    best, second = sorted(files, key=lambda path: values[epochs[path]], reverse=True)
    best.write_bytes(best.read_bytes()[:1000])
    if lost == "all best":
        second.unlink()
    expected = weights_hash(second if lost == "the best" else stopped.live_dir / LAST)
    resumed(job, stopped.run_id)
    run = find_run(stopped.store, stopped.run_id)
    assert run.status == "FINISHED"
    assert weights_hash(download_artifact(run, "checkpoints/best.ckpt")) == expected
    assert "is lost or damaged" in caplog.text


@pytest.mark.slow
def test_what_cannot_be_resumed_is_refused(tiny_job, monkeypatch):
    job = tiny_job("trainer.max_epochs=1", "test=false", "tags.why=refused")
    finished = train(job).run_id
    with pytest.raises(ConfigError, match="has finished"):
        resumed(job, finished)
    undo = stop_at(monkeypatch, 2, "training_step")
    with pytest.raises(StoppedError):
        train(job)
    undo()
    run = find_run(job.project.store, "latest")
    run.store.client.set_tag(run.run_id, "dataset_fingerprint", "another")
    with pytest.raises(DataError, match=r"differ in: data \(dataset_fingerprint another"):
        resumed(job, run.run_id)
    assert find_run(run.store, run.run_id).status == "FAILED"


def test_a_torn_checkpoint_is_passed_over(tmp_path, caplog):
    assert newest_checkpoint(tmp_path) is None
    for name in (BEFORE_LAST, LAST):
        torch.save({"state_dict": {"weight": torch.arange(1000.0)}}, tmp_path / name)
    assert newest_checkpoint(tmp_path) == tmp_path / LAST
    content = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(content[: len(content) // 2])
    assert newest_checkpoint(tmp_path) == tmp_path / BEFORE_LAST
    assert "is damaged" in caplog.text
    turned = bytearray(content)
    turned[len(content) // 2] ^= 1
    (tmp_path / LAST).write_bytes(turned)
    assert not is_whole(tmp_path / LAST)


def test_the_hash_of_weights_is_that_of_their_bits(tmp_path: Path):
    def hashed(**state):
        torch.save({"state_dict": state, "epoch": len(state)}, tmp_path / "x.ckpt")
        return weights_hash(tmp_path / "x.ckpt")

    one, zero = torch.ones(2), torch.zeros(())
    assert hashed(a=one, b=zero) == hashed(b=zero, a=one)
    assert hashed(a=one) != hashed(a=one.double()) != hashed(b=one)
    assert hashed(a=torch.tensor([0.0])) != hashed(a=torch.tensor([-0.0]))

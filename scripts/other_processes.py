"""Measures how far the weights of a run that goes on with other processes differ from those of the run that did not.

    python scripts/other_processes.py --network plain batch_norm --processes 2 4

Trains a small network on generated lesions with 2 processes of the CPU for 4 epochs. Then stops the same job after its
first epoch, and resumes it with 2, with 1 and with 4 processes, and with 1 for an epoch and then with 4; a job of 4
processes with 2 and with 1. With `--within` it stops after some steps of the next epoch. Compares the images of every
step, the epochs that were validated, and the weights at the ends of the second and the last epoch with those of the
first training. Exits with 1 if a step has other images, if an epoch was not validated once, or if as many processes as
before do not end with the same bits. `plain` is a network without batch normalisation. A network takes some minutes of
two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

EPOCHS = 4
IMAGES = 16
"""Of each step, on all processes together."""
CHANGES: dict[int, tuple[tuple[int, ...], ...]] = {2: ((2,), (1,), (4,), (1, 4)), 4: ((2,), (1,))}
"""For each number of processes of a job those after each stop; the first stop is after one epoch, the next one after
another."""
WITHIN = 4
"""Steps of an epoch after which a run stops with `--within`, which are saved one by one."""
TINY = (
    "experiment=demo", "image_size=32", "dataset.num_lesions=200", "dataset.image_height=32", "dataset.image_width=32",
    "trainer=ddp_cpu", "trainer.precision=32-true", f"trainer.max_epochs={EPOCHS}",
    "loader.num_workers=0", "sampler=shuffle", "loss=cross_entropy", "backbone=small_cnn",
    "backbone.width=8", "evaluation.bootstrap_draws=100", "test=false", "print_config=false",
    "tracking.log_images=false", "tracking.log_model=false",
)  # fmt: skip
STOPPED = 143
"""The exit code of a process that SIGTERM ends."""


def start(processes: int, begun: Mapping[str, Any], records: Path, verb: str, stop: int | None) -> None:
    """Trains or resumes the job of `begun` with so many processes, until the epoch `stop` would begin, or within it."""
    records.mkdir(parents=True, exist_ok=True)
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", __file__, "--as-process"]
    facts = {**begun, "records": str(records), "verb": verb, "stop": stop}
    command = [sys.executable, *words, json.dumps(facts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if bool(done.returncode) != (stop is not None):
        raise RuntimeError(f"{verb} with {processes} processes ended with code {done.returncode}:\n{done.stderr}")


def as_process(root: str, network: str, processes: int, within: int, records: str, verb: str, stop: int | None) -> None:
    """Is one process of a training, which writes the images of its batches, and the weights after each epoch."""
    from lesion_exp.backbone import small_cnn
    from lesion_exp.config.compose import compose
    from lesion_exp.config.freeze import freeze
    from lesion_exp.task import LesionClassifier, training_length
    from lesion_exp.tracking.find import find_run
    from lesion_exp.training.run import train
    from lesion_exp.verbs.resume import resume

    begin, end, step, validate = (
        LesionClassifier.on_train_epoch_start, LesionClassifier.on_train_epoch_end, LesionClassifier.training_step,
        LesionClassifier.on_validation_epoch_end,
    )  # fmt: skip

    def stopping(self: LesionClassifier) -> None:
        if self.current_epoch == stop and not within:
            raise SystemExit(STOPPED)
        begin(self)

    def recording(self: LesionClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        done = self.global_step - self.current_epoch * training_length(self.trainer).steps_per_epoch
        if self.current_epoch == stop and within and done >= within:
            raise SystemExit(STOPPED)
        with Path(records, f"images_{self.global_rank}.jsonl").open("a", encoding="utf-8") as file:
            print(json.dumps([self.current_epoch, self.global_step, batch["index"].tolist()]), file=file)
        return step(self, batch, batch_idx)

    def keeping(self: LesionClassifier) -> None:
        end(self)
        if self.global_rank == 0:
            torch.save(self.backbone.state_dict(), Path(records, f"weights_{self.current_epoch}.pt"))

    def validating(self: LesionClassifier) -> None:
        validate(self)
        if self.global_rank == 0:
            with Path(records, "validated.txt").open("a", encoding="utf-8") as file:
                print(self.current_epoch, file=file)

    LesionClassifier.on_train_epoch_start = stopping  # type: ignore[method-assign]
    LesionClassifier.on_train_epoch_end = keeping  # type: ignore[method-assign]
    LesionClassifier.training_step = recording  # type: ignore[assignment, method-assign]
    LesionClassifier.on_validation_epoch_end = validating  # type: ignore[method-assign]
    if network == "plain":
        small_cnn._block = plain_block
    size = [f"trainer.devices={processes}", f"loader.batch_size={IMAGES // processes}"]
    size += ["trainer.checkpoint_every_steps=1"] if within else []
    job = freeze(compose([*TINY, *size], root=Path(root)))
    if verb == "train":
        train(job)
    else:
        resume(find_run(job.project.store, "latest"), job.project)


def plain_block(inside: int, outside: int) -> nn.Sequential:
    """A block of the small network without batch normalisation."""
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


def steps(records: Path) -> dict[tuple[int, int], str]:
    """The hash of the images of each step on all processes, by epoch and step."""
    images: dict[tuple[int, int], list[int]] = defaultdict(list)
    for path in sorted(records.glob("images_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            epoch, step, own = json.loads(line)
            images[epoch, step] += own
    return {place: hashlib.sha256(str(sorted(own)).encode()).hexdigest() for place, own in sorted(images.items())}


def validated(records: Path) -> list[str]:
    """The epochs that were validated, in their order."""
    return (records / "validated.txt").read_text(encoding="utf-8").split()


def differences(records: Path, never: Path, epoch: int) -> dict[str, float]:
    """The largest difference of a weight from the run that was never stopped, after an epoch.

    `relative` is the largest, over the tensors, of the norm of the difference divided by the norm of the tensor.
    Running statistics of batch normalisation count as weights, since a prediction uses them.
    """
    mine, theirs = (torch.load(one / f"weights_{epoch}.pt", weights_only=True) for one in (records, never))
    pairs = [(mine[name].double(), theirs[name].double()) for name in theirs if theirs[name].is_floating_point()]
    return {
        "absolute": max(float((a - b).abs().max()) for a, b in pairs),
        "relative": max(float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in pairs),
    }


def measure(network: str, wanted: int, folder: Path, within: int) -> list[dict[str, Any]]:
    """Returns a row for each way in which a job of `wanted` processes goes on."""
    root, kept, records = folder / "project", folder / "kept", folder / "records"
    begun = {"root": str(root), "network": network, "processes": wanted, "within": within}
    root.mkdir()
    start(wanted, begun, records / "never", "train", None)
    shutil.rmtree(root)
    root.mkdir()
    start(wanted, begun, records / "begun", "train", 1)
    shutil.copytree(root, kept)
    images, rows = steps(records / "never"), []
    for change in CHANGES[wanted]:
        own = records / "_".join(map(str, change))
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        shutil.copytree(records / "begun", own)
        for place, processes in enumerate(change):
            start(processes, begun, own, "resume", place + 2 if place + 1 < len(change) else None)
        found = steps(own)
        row = {
            "network": network,
            "processes": [wanted, *change],
            "within": bool(within),
            "steps": len(found),
            "same_images": found == images,
            "same_validations": validated(own) == validated(records / "never"),
            "second_epoch": differences(own, records / "never", 1),
            "last_epoch": differences(own, records / "never", EPOCHS - 1),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=("plain", "batch_norm"), default=["plain", "batch_norm"])
    parser.add_argument("--processes", type=int, nargs="+", choices=sorted(CHANGES), default=[2], help="of the job")
    parser.add_argument("--within", action="store_true", help="stop within an epoch")
    parser.add_argument("--as-process", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.as_process:
        as_process(**json.loads(arguments.as_process))
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = []
    for network, processes in itertools.product(arguments.network, arguments.processes):
        with tempfile.TemporaryDirectory(prefix="other_processes_") as folder:
            rows += measure(network, processes, Path(folder), WITHIN if arguments.within else 0)
    same = all(row["same_images"] and row["same_validations"] for row in rows)
    bits = all(row["last_epoch"]["absolute"] == 0 for row in rows if len(set(row["processes"])) == 1)
    return 0 if same and bits else 1


if __name__ == "__main__":
    sys.exit(main())

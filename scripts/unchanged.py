"""Records what a change of the code must not change, and compares two records.

    python scripts/unchanged.py record build/before.json --data DIR     # before the change
    python scripts/unchanged.py record build/after.json --data DIR      # after it
    python scripts/unchanged.py compare build/before.json build/after.json

`record` trains five jobs with the command line: the demo, `ham10000_cpu` cut to two epochs, one fold of `ph2_mask_cnn`,
a cross-validation of two folds, and a run that is killed in the middle and continued. Of each run it keeps the hash of
the weights, every value of every metric, the tags and parameters that follow from the job and the data, and the names
of all metrics, tags, parameters and artifacts. DIR holds the folders `ham10000` and `ph2`; without it the two jobs on
real data are left out, and the record says so. It takes about ten minutes on two cores.

`compare` prints "identical" and exits 0, or prints each difference and exits 1. `--new-job-hash` accepts other job
hashes, for a change that adds to the job file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from endurance_process import kill_all, start

if TYPE_CHECKING:
    from lesion_exp.tracking.stored_run import Run

QUIET: Final = ("print_config=false", "loader.num_workers=1", "trainer.precision=32-true", "trainer.accelerator=cpu")
SMALL: Final = ("experiment=demo", "image_size=32", "dataset.num_lesions=150", "trainer.max_epochs=4")
JOBS: Final[Mapping[str, tuple[str, ...]]] = {
    "demo": ("experiment=demo",),
    "ham10000_cpu": ("experiment=ham10000_cpu", "dataset.root={data}/ham10000", "trainer.max_epochs=2"),
    "ph2_mask_cnn": ("experiment=ph2_mask_cnn", "dataset.root={data}/ph2", "split.fold=0"),
    "cross_validation": (
        "-m", *SMALL, "split=kfold", "split.num_folds=2", "split.fold=0,1", "loss=focal", "test=true",
    ),
    "resumed": (*SMALL, "augmentation=standard", "augmentation.mix.mixup_alpha=0.4", "trainer.ema_decay=0.9"),
}  # fmt: skip
KILLED: Final = "resumed"
MEASURED: Final = ("time/", "system/", "tune/")
"""Metrics with these beginnings differ from run to run; their names are compared, their values are not."""
COMPARED_TAGS: Final = ("weights_hash", "split_hash", "dataset_fingerprint", "leaky", "job_hash")
COMPARED_PARAMS: Final = ("loss", "backbone", "optimizer", "scheduler", "sampler", "augmentation", "seed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="train the jobs and write what they gave")
    recording.add_argument("file", type=Path)
    recording.add_argument("--data", type=Path, help="folder with ham10000 and ph2")
    recording.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS), help="only these")
    comparing = commands.add_parser("compare", help="compare two records")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--new-job-hash", action="store_true", help="accept other job hashes")
    asked = parser.parse_args()
    if asked.command == "record":
        found = {name: record(name, asked.data) for name in asked.jobs}
        asked.file.parent.mkdir(parents=True, exist_ok=True)
        asked.file.write_text(json.dumps(found, indent=1, sort_keys=True))
        return 0
    before, after = (json.loads(path.read_text()) for path in (asked.before, asked.after))
    ignored = {"job_hash"} if asked.new_job_hash else set()
    differences = [line for line in compare(before, after) if not any(line.split(":")[0].endswith(n) for n in ignored)]
    for line in differences:
        print(line)
    left_out = [name for name in JOBS if before.get(name) is None]
    if left_out:
        print(f"not compared, since they need --data or were not recorded: {', '.join(left_out)}")
    print("identical" if not differences else f"{len(differences)} differences")
    return int(bool(differences))


def record(name: str, data: Path | None) -> list[dict[str, Any]] | None:
    """The results of each run of the job `name`; None if its data are not there."""
    from lesion_exp.tracking.find import runs_where
    from lesion_exp.tracking.store import open_store

    arguments = JOBS[name]
    if data is None and any("{data}" in argument for argument in arguments):
        print(f"{name}: left out, it needs --data", flush=True)
        return None
    with tempfile.TemporaryDirectory(prefix="lesion_exp_unchanged_") as folder_name:
        folder, begun = Path(folder_name), time.monotonic()
        train(folder, name, [argument.format(data=data and data.resolve()) for argument in arguments])
        store = open_store(None, folder, folder / "mlruns" / "live")
        runs = [facts(run) for run in runs_where(store, "attributes.status = 'FINISHED'")]
        print(f"{name}: {len(runs)} runs in {time.monotonic() - begun:.0f} s", flush=True)
        if not runs:
            raise RuntimeError((folder / "output.txt").read_text()[-4000:])
        return sorted(runs, key=lambda run: (run["tags"].get("job_hash", ""), len(run["metrics"])))


def train(folder: Path, name: str, arguments: list[str]) -> None:
    """Runs the command to its end; the job that is to be killed is killed after its second checkpoint and resumed."""
    process = start(folder, ["train", *arguments, *QUIET])
    if name == KILLED:
        seen: set[int] = set()
        while process.poll() is None and len(seen) < 2:
            for path in folder.glob("mlruns/live/*/last.ckpt"):
                with contextlib.suppress(FileNotFoundError):
                    seen.add(path.stat().st_mtime_ns)
            time.sleep(0.01)
        kill_all(process)
        process.wait()
        process = start(folder, ["resume", "run=latest"])
    if process.wait() != 0:
        raise RuntimeError((folder / "output.txt").read_text()[-4000:])


def facts(run: Run) -> dict[str, Any]:
    """The facts of a run that are compared."""
    history = {name: run.store.client.get_metric_history(run.run_id, name) for name in sorted(run.metrics)}
    return {
        "tags": {name: run.tags[name] for name in COMPARED_TAGS if name in run.tags},
        "params": {name: run.params[name] for name in COMPARED_PARAMS if name in run.params},
        "metrics": {
            name: [] if name.startswith(MEASURED) else [[point.step, repr(point.value)] for point in points]
            for name, points in history.items()
        },
        "tag_names": sorted(run.tags),
        "param_names": sorted(run.params),
        "artifacts": sorted(artifacts(run)),
    }


def artifacts(run: Run, folder: str = "") -> Iterator[str]:
    """The paths of all artifact files of the run."""
    for entry in run.store.client.list_artifacts(run.run_id, folder or None):
        if entry.is_dir:
            yield from artifacts(run, entry.path)
        else:
            yield entry.path


def compare(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """A line for each place at which two records differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from compare(before.get(key), after.get(key), f"{place}/{key}" if place else key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for position, pair in enumerate(zip(before, after, strict=True)):
            yield from compare(*pair, f"{place}/{position}")
    elif isinstance(before, list) and isinstance(after, list) and all(isinstance(x, str) for x in [*before, *after]):
        gone, new = sorted(set(before) - set(after)), sorted(set(after) - set(before))
        yield f"{place}: gone {gone}, new {new}"
    elif before != after:
        yield f"{place}: {str(before)[:200]} before, {str(after)[:200]} after"


if __name__ == "__main__":
    sys.exit(main())

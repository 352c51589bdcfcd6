"""Reads hostile pictures, tables and bundles in this process and reports the outcomes.

    python scripts/hostile_files.py --count 200 --seed 0

Each file must be refused with one message, or read rightly: no traceback, no program started, nothing of the file's
content in a message, and after a refused bundle the store as it was before. Exits with 1 if not. It takes about two
minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hostile_file_kinds import BUNDLES, NUM_IMAGES, SECRET, TABLES, Hostile
from hostile_kinds import DEEP_PICTURES, PICTURES, image, name_of

from lesion_exp.cli import main as lesion_exp
from lesion_exp.errors import UserError
from lesion_exp.image_file import read_image
from lesion_exp.tracking.find import find_run, runs_where
from lesion_exp.tracking.store import open_store
from lesion_exp.verbs.bundle.export import export_runs
from lesion_exp.verbs.bundle.importing import import_bundle

MUST_BE_REFUSED = ("no numbers", "wide values", "other type", "bomb by header")
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn")
SLOWEST_SECONDS = 60.0
LONGEST_MESSAGE = 20_000
started: list[str] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="files of each family (200)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    sys.addaudithook(lambda event, _: started.append(event) if event in STARTS else None)
    result = {}
    with tempfile.TemporaryDirectory(prefix="hostile_") as name:
        for family in (pictures, tables, bundles):
            folder = Path(name, family.__name__)
            folder.mkdir()
            began = time.monotonic()
            result[family.__name__] = family(folder, asked.count, asked.seed)
            result[family.__name__]["seconds"] = round(time.monotonic() - began)
    result["passed"] = not any(entry["faults"] for entry in result.values())
    print(json.dumps(result, indent=2))
    return 0 if result["passed"] else 1


def pictures(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Each is decoded as prepare, training, prediction and the server do, with its name alone in the message."""

    def read(path: Path) -> str:
        pixels = read_image(str(path))
        assert pixels.dtype == np.uint8, pixels.dtype
        assert pixels.ndim == 3, pixels.shape
        return "read"

    report = Report()
    for number, (kind, rng) in enumerate(drawn({**PICTURES, **DEEP_PICTURES}, count, seed)):
        name = name_of(kind)
        must = "refused" if name in MUST_BE_REFUSED else "read" if name == "whole picture" else "either"
        path = folder / f"{number}.jpg"
        path.write_bytes(kind(rng))
        report.note(name, must, lambda path=path: read(path))
    return report.result()


def tables(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Each is read by `lesion-exp prepare`."""
    rng = np.random.default_rng(seed)
    for number in range(NUM_IMAGES):
        (folder / f"{number}.png").write_bytes(image(rng, "PNG"))
    (folder / "secret.txt").write_text(SECRET)
    os.mkfifo(folder / "pipe.png")
    report = Report()
    for kind, rng in drawn(TABLES, count, seed):
        hostile = kind(rng)
        (folder / "table.csv").write_bytes(hostile.content)
        arguments = ["dataset=csv", f"dataset.root={folder}", "dataset.table=table.csv", f"paths.root={folder}/project"]
        report.note(name_of(kind), hostile.must, lambda arguments=arguments: prepared(arguments))
    return report.result()


def prepared(arguments: list[str]) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = lesion_exp(["prepare", *arguments])
    said = out.getvalue() + err.getvalue()
    assert "Traceback" not in said, said
    if code == 2:
        raise UserError(err.getvalue())
    assert code == 0, f"exit code {code}: {said}"
    assert SECRET not in said, "the message repeats the file"
    return "read"


def bundles(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Each is imported into a store, of which nothing may change where the bundle is refused."""
    source, store = (open_store(None, made(folder / name)) for name in ("source", "store"))
    client = source.client
    run_id = client.create_run(source.experiment_id("study"), start_time=1000, run_name="a run").info.run_id
    client.log_param(run_id, "optimizer.lr", "0.1")
    client.log_metric(run_id, "val/accuracy", 0.5, timestamp=2000, step=1)
    (folder / "artifact").write_text("format: 1\n")
    source.put_artifact(run_id, client.get_run(run_id).info.artifact_uri, folder / "artifact", "config/job.yaml")
    client.set_terminated(run_id, "FINISHED", 3000)
    export_runs([find_run(source, run_id)], folder / "whole.zip")
    whole = (folder / "whole.zip").read_bytes()

    def taken(path: Path) -> str:
        before = state(store)
        try:
            (found,) = import_bundle(store, path)
        except UserError:
            assert state(store) == before, "a refused bundle has changed the store"
            raise
        store.client.delete_run(found.run_id)
        return "read"

    report = Report()
    for kind, rng in drawn(BUNDLES, count, seed):
        hostile: Hostile = kind(rng, whole)
        (folder / "run.zip").write_bytes(hostile.content)
        report.note(name_of(kind), hostile.must, lambda: taken(folder / "run.zip"))
    return report.result()


def state(store: Any) -> tuple[int, list[str]]:
    """The number of runs of a store, and the files below it except those of its database."""
    files = [str(path) for path in store.root.rglob("*") if path.is_file() and "mlflow.db" not in path.name]
    return sum(1 for _ in runs_where(store, "")), sorted(name for name in files if not name.endswith(".lock"))


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def drawn(shares: Mapping[Any, float], count: int, seed: int) -> list[tuple[Any, np.random.Generator]]:
    """Kinds with a generator each; the same for the same seed, each kind at least once."""
    kinds = list(shares)
    weights = np.array(list(shares.values())) / sum(shares.values())
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = kinds[number] if number < len(kinds) else kinds[int(rng.choice(len(kinds), p=weights))]
        found.append((kind, rng))
    return found


class Report:
    """The outcomes for the files of a family."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []

    def note(self, name: str, must: str, read: Callable[[], str]) -> None:
        """Reads one file and notes an outcome that is not the required one."""
        began, before, said = time.monotonic(), len(started), ""
        try:
            outcome = read()
        except UserError as error:
            outcome, said = "refused", str(error)
        except BaseException as error:
            outcome = "traceback"
            self.faults.append(f"{name}: {type(error).__name__}: {str(error)[:500]}")
        self.outcomes[name, outcome] += 1
        if must != "either" and outcome != must:
            self.faults.append(f"{name}: expected to be {must}, was {outcome}: {said[:300]}")
        if len(said) > LONGEST_MESSAGE:
            self.faults.append(f"{name}: a message of {len(said):,} characters")
        if SECRET in said:
            self.faults.append(f"{name}: the message repeats the file: {said[:300]}")
        if len(started) > before:
            self.faults.append(f"{name}: started {started[before:]}")
        if time.monotonic() - began > SLOWEST_SECONDS:
            self.faults.append(f"{name}: took {time.monotonic() - began:.0f} s")

    def result(self) -> dict[str, Any]:
        totals: Counter[str] = Counter()
        for (_, outcome), count in self.outcomes.items():
            totals[outcome] += count
        by_kind = {name: {} for name, _ in sorted(self.outcomes)}
        for (name, outcome), count in sorted(self.outcomes.items()):
            by_kind[name][outcome] = count
        return {"files": totals.total(), **totals, "by_kind": by_kind, "faults": self.faults}


if __name__ == "__main__":
    sys.exit(main())

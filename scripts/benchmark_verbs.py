"""The verbs of `benchmark_start`: how long each needs until its first useful line, and what it imports for that."""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmark_rounds import (
    processor_seconds_of,
    seconds_of,
    show,
    spread_of,
    summary,
    take_turns,
    with_processor,
)

from lesion_exp.command.verbs import VERBS

PACKAGES = (
    "numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.metrics", "matplotlib.figure", "cv2", "torch",
    "torchvision", "torchmetrics", "pytorch_lightning", "albumentations", "mlflow", "hydra", "fastapi", "uvicorn",
    "optuna", "captum", "onnx",
)  # fmt: skip
"""Packages, and parts of packages, whose import takes long."""
SMALL = (
    "experiment=demo", "image_size=64", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2",
    "evaluation.bootstrap_draws=100", "print_config=false",
)  # fmt: skip
RESULT, MESSAGE = "stdout", "stderr"
REFUSAL = "lesion-exp: "
"""How the message of a command begins that was refused."""
WRAPPER = """
import json, resource, sys
from lesion_exp.cli import main

note, packages, words = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
sys.argv = ["lesion-exp", *words]
try:
    code = main()
finally:
    loaded = [name for name in packages if name in sys.modules]
    try:  # the largest since the program began; ru_maxrss counts the process that started it as well
        with open("/proc/self/status") as status:
            memory = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open(note, "w") as file:
        json.dump({"loaded": loaded, "memory": memory}, file)
sys.exit(code)
"""


class Call(NamedTuple):
    """How a verb is called; words in capitals stand for what `make_project` has made."""

    words: str
    stream: str = RESULT
    """Where its first useful line is."""
    line: str = "."
    """A pattern that this line contains."""
    ends: bool = True
    """Whether it ends by itself within seconds."""
    codes: tuple[int, ...] = (0,)
    """The exit codes with which it then may end."""


CALLS = {
    "prepare": Call("experiment=demo"),
    "preview": Call("experiment=demo"),
    "train": Call(" ".join(SMALL), MESSAGE, ends=False),
    "plan": Call("experiment=demo hours=0.02", MESSAGE, ends=False),
    "sweep": Call("status SWEEP"),
    "resume": Call("run=STOPPED", MESSAGE, ends=False),
    "compare": Call("RUN THEIRS evaluation.bootstrap_draws=100"),
    "sync": Call(""),
    "reproduce": Call("run=RUN --check-only"),
    "bundle": Call("export run=RUN output=again.zip"),
    "evaluate": Call("run=RUN"),
    "import": Call("predictions=theirs.csv truth=truth.csv evaluation.bootstrap_draws=100"),
    "leakage": Call("experiment=demo image_size=64", MESSAGE, ends=False),
    "audit": Call("experiment=demo split=grouped"),
    "shortcuts": Call("run=RUN images=20", MESSAGE, ends=False),
    "explain": Call("run=RUN method=grad_cam images=4"),
    "report": Call("run=RUN"),
    "table": Call("sweep=SWEEP rows=seed metric=val/accuracy"),
    "figures": Call("run=RUN format=svg output=drawn"),
    "predict": Call("run=RUN input=images output=new.csv force=true"),
    "label-errors": Call("run=RUN output=suspected.csv min_balanced_accuracy=0"),
    "export": Call("run=RUN format=torchscript output=exported check_images=4 force=true"),
    "register": Call("run=RUN alias=first"),
    "serve": Call("run=RUN port=0", MESSAGE, "page: ", ends=False),
    "doctor": Call("", codes=(0, 1)),
    "clean": Call(""),
    "completion": Call("bash"),
    "schema": Call("output=schemas"),
    "ui": Call("port=PORT", MESSAGE, "MLflow: ", ends=False),
}


def variables() -> dict[str, str]:
    kept = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "NO_ALBUMENTATIONS_UPDATE": "1"}
    kept.pop("MLFLOW_TRACKING_URI", None)
    return kept


def measured(verbs: Sequence[str], rounds: int) -> dict[str, Any]:
    """Shows and returns the times of `verbs`, each beside its imports."""
    assert set(CALLS) == set(VERBS), "a verb is not measured"
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as name:
        folder = Path(name)
        names = make_project(folder)
        calls = {verb: (verb, *words_of(CALLS[verb], names)) for verb in verbs}
        notes: dict[str, dict[str, Any]] = {}
        used: dict[str, list[float]] = {}
        ways = {}
        for verb, words in calls.items():
            notes[verb] = {}
            first_line(folder, verb, words, notes[verb], [])  # finds the packages, and warms the disk
            mine = used.setdefault(verb, [])
            ways[verb] = lambda verb=verb, words=words, mine=mine: first_line(folder, verb, words, notes[verb], mine)
            bare = f"{verb}, imports"
            ways[bare] = with_processor(bare, lambda verb=verb: imports(folder, notes[verb]["loaded"]), used)
        found = summary(take_turns(ways, rounds))
    rows = []
    results: dict[str, Any] = {}
    for verb in calls:
        first, bare = found[verb], found[f"{verb}, imports"]
        beyond = first["median"] - bare["median"]
        processor = [statistics.median(used[name]) for name in (verb, f"{verb}, imports")]
        results[verb] = {"first_line": first, "imports": bare, "beyond": beyond, **notes[verb]}
        results[verb]["processor_seconds"] = {"first_line": processor[0], "imports": processor[1]}
        loaded = " ".join(package_names(notes[verb]["loaded"]))
        rows.append(
            [verb, f"{first['median']:.2f}", spread_of(first, 2), f"{bare['median']:.2f}", f"{beyond:.2f}",
             *(f"{value:.2f}" for value in processor), f"{notes[verb]['memory'] / 1e6:.0f}", loaded]
        )  # fmt: skip
    columns = ["verb", "median", "spread", "imports", "beyond", "processor", "of imports", "MB", "packages"]
    show("seconds to the first useful line", columns, rows)
    return results


def package_names(loaded: list[str]) -> list[str]:
    return [name.partition(".")[0] for name in loaded if name not in ("numpy", "hydra")]


def words_of(call: Call, names: dict[str, str]) -> list[str]:
    return [re.sub("|".join(names), lambda found: names[found[0]], word) for word in call.words.split()]


def make_project(folder: Path) -> dict[str, str]:
    """Makes what the calls need, and returns what the words in capitals of the calls stand for."""
    ended(folder, "prepare", "experiment=demo")
    run_id = ended(folder, "train", *SMALL, "backbone=resnet18", "test=true").split()[-1]
    sweep = ended(folder, "train", "-m", *SMALL, "backbone=small_cnn", "seed=1,2").split()[-1]
    images = folder / "images"
    images.mkdir()
    for path in sorted((folder / "data_cache").rglob("*.jpg"))[:4]:
        (images / path.name).write_bytes(path.read_bytes())
    kept = next((folder / "mlruns" / "artifacts").glob(f"*/{run_id}/artifacts/predictions/test.parquet"))
    import pandas as pd

    table = pd.read_parquet(kept)
    columns = {name: name.removeprefix("p_") for name in table if name.startswith("p_")}
    table[["image_id", *columns]].rename(columns=columns).to_csv(folder / "theirs.csv", index=False)
    table[["image_id", "label"]].to_csv(folder / "truth.csv", index=False)
    imported = ended(folder, "import", "predictions=theirs.csv", f"like={run_id}", "evaluation.bootstrap_draws=100")
    theirs = re.findall(r"\b[0-9a-f]{32}\b", imported)[-1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return {"RUN": run_id, "THEIRS": theirs, "SWEEP": sweep, "STOPPED": stopped(folder), "PORT": port}


def stopped(folder: Path) -> str:
    """The id of a run that was stopped as soon as it had begun."""
    command = [sys.executable, "-m", "lesion_exp", "train", *SMALL, "backbone=small_cnn", "seed=3"]
    with subprocess.Popen(
        command, cwd=folder, env=variables(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None, "it was opened as a pipe"
        run_id = next(found[1] for line in process.stderr if (found := re.search(r"\brun ([0-9a-f]{32})\b", line)))
        process.terminate()
        process.stderr.read()
    return run_id


def ended(folder: Path, *words: str) -> str:
    """What a command writes to standard output."""
    command = [sys.executable, "-m", "lesion_exp", *words]
    return subprocess.run(
        command, cwd=folder, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout


def first_line(folder: Path, verb: str, words: tuple[str, ...], note: dict[str, Any], processor: list[float]) -> float:
    """Seconds until the first useful line of a verb; those of a processor are added to `processor`, its packages and
    its memory to `note`.

    Raises:
        RuntimeError: the verb was refused, or ended without the line or with another exit code than it should.
    """
    call = CALLS[verb]
    file = folder / "note.json"
    file.unlink(missing_ok=True)
    streams = {name: subprocess.PIPE if name == call.stream else subprocess.DEVNULL for name in (RESULT, MESSAGE)}
    command = [sys.executable, "-c", WRAPPER, str(file), json.dumps(PACKAGES), *words]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=variables(), stdin=subprocess.DEVNULL, text=True, **streams)  # type: ignore[call-overload]
    lines: IO[str] = getattr(process, call.stream)
    line = next((line for line in lines if re.search(call.line, line)), None)
    took = time.perf_counter() - begun
    processor.append(processor_seconds_of(process.pid))
    threading.Thread(target=lines.read, daemon=True).start()  # a full pipe would stop the process
    if not call.ends:
        process.terminate()
    code = process.wait()
    if line is None or line.startswith(REFUSAL) or (call.ends and code not in call.codes):
        raise RuntimeError(f"expected a useful line of {' '.join(words)}, got {line!r} and the exit code {code}")
    if file.exists():
        note |= json.loads(file.read_text())
    return took


def imports(folder: Path, names: list[str]) -> float:
    code = f"import {', '.join(names)}" if names else "pass"
    return seconds_of(lambda: subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables(), check=True))

"""Kills every verb that writes at a random moment and continues as a user would: nothing may be lost or doubled.

    python scripts/endurance.py kills --kills 300 --seed 0

Half of the kills are SIGKILL, half SIGTERM. Half of the moments are drawn from the time that the verb takes, half from
its operations on files and databases, which gather where a kill hurts most. All processes are forks of one that has
imported everything, so a kill takes seconds; pictures are left out of the runs. Prints a row for each verb; exits with
1 if anything was lost (values, files, parameters), doubled (points, runs, versions) or cannot be continued.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

KINDS = ("lost", "doubled", "unusable")
COUNTED = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "shutil.rmtree", "sqlite3.connect")
ROW = "{:<12} {:>6} {:>8} {:>8} {:>11} {:>6} {:>8} {:>9}"
Result = tuple[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this test."""
    parser.add_argument("--kills", type=int, default=300, help="kills over all verbs (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--workers", type=int, default=2, help="verbs that are killed at once (2)")
    parser.add_argument("--verbs", help="those of VERBS to kill, with commas between; by default all")


def run(asked: argparse.Namespace) -> int:
    """Kills, continues and checks; returns 1 if something was wrong."""
    warm()
    from endurance_verbs import VERBS, make_templates

    chosen = [verb for verb in VERBS if asked.verbs is None or verb.name in asked.verbs.split(",")]
    with tempfile.TemporaryDirectory(prefix="lesion_exp_kills_") as name:
        templates = Path(name) / "templates"
        templates.mkdir()
        expect(lambda: make_templates(templates), templates)
        print(ROW.format("verb", "kills", "SIGKILL", "SIGTERM", "operations", *KINDS), flush=True)
        shares = sum(verb.share for verb in chosen)
        waiting = [
            (verb, -(-asked.kills * verb.share // shares), Path(name), templates, f"{asked.seed} {verb.name}")
            for verb in chosen
        ]
        running: list[Any] = []
        ended: list[Any] = []
        while waiting or running:
            while waiting and len(running) < asked.workers:
                running.append(get_context("fork").Process(target=kill_verb, args=waiting.pop(0)))
                running[-1].start()
            time.sleep(0.2)
            ended += [process for process in running if not process.is_alive()]
            running = [process for process in running if process.is_alive()]
    return int(any(process.exitcode for process in ended))


def warm() -> None:
    """Imports what the verbs import; opens no store and starts no thread, so that this process can be forked."""
    from lesion_exp.sweeps.launcher.fork_server import PRELOADED
    from lesion_exp.tracking.store import quiet_mlflow

    os.environ.pop("MLFLOW_TRACKING_URI", None)
    quiet_mlflow()
    more = (
        "lesion_exp.cli", "lesion_exp.command.actions", "lesion_exp.verbs.bundle.importing",
        "lesion_exp.verbs.predict.predict", "lesion_exp.trained_runs.backfill", "lesion_exp.verbs.evaluate.evaluate",
        "mlflow.pyfunc",
    )  # fmt: skip
    for name in (*PRELOADED, *more):
        importlib.import_module(name)
    import torch

    from lesion_exp.tracking.run_writer import RunWriter

    torch.set_num_threads(1)
    RunWriter.log_figure = lambda self, figure, path, about: self.log_text("a picture", path)  # type: ignore[method-assign]


def kill_verb(verb: Any, kills: int, folder: Path, templates: Path, seed: str) -> None:
    """Kills `verb` a number of times and prints its row; the exit code of this process is 1 if something was wrong."""
    draws = random.Random(seed)
    seconds, operations = measure(verb, folder / f"{verb.name}-whole", templates)
    found: Counter[str] = Counter()
    signals: Counter[str] = Counter()
    number = 0
    while signals.total() < kills:
        number += 1
        how = (signal.SIGKILL, signal.SIGTERM)[signals.total() % 2]
        moment: float | int = draws.uniform(0, seconds)
        if signals.total() // 2 % 2:
            moment = draws.randint(1, operations)
        trial = folder / f"{verb.name}-{number}"
        verb.prepare(trial, templates)
        if not kill(verb, trial, moment, how):
            shutil.rmtree(trial)
            continue  # it had ended before
        signals[how.name] += 1
        kind, faults = in_fork(lambda trial=trial: verb.go_on_and_judge(trial, templates), trial)
        faults = faults if kind == "done" else [f"unusable: {faults}"]
        for fault in faults:
            found[fault.partition(":")[0]] += 1
            print(f"{verb.name}, {how.name} at {moment}: {fault}", file=sys.stderr, flush=True)
        if faults:
            print((trial / "output.txt").read_text()[-4000:], file=sys.stderr, flush=True)
        shutil.rmtree(trial)
        if signals.total() % 10 == 0:
            print(f"{verb.name}: {signals.total()} of {kills} kills", file=sys.stderr, flush=True)
    row = (signals["SIGKILL"], signals["SIGTERM"], operations, *(found[kind] for kind in KINDS))
    print(ROW.format(verb.name, kills, *row), flush=True)
    sys.exit(int(found.total() > 0))


def measure(verb: Any, folder: Path, templates: Path) -> tuple[float, int]:
    """The seconds and the operations of the undisturbed verb, whose results must pass the same checks."""
    verb.prepare(folder, templates)
    begun = time.monotonic()
    operations = expect(lambda: counted(lambda: verb.act(folder), folder), folder)
    seconds = time.monotonic() - begun
    faults = expect(lambda: verb.go_on_and_judge(folder, templates), folder)
    if faults:
        raise RuntimeError(f"{verb.name} undisturbed: {faults}; see {folder}/output.txt")
    shutil.rmtree(folder)
    return seconds, operations


def kill(verb: Any, folder: Path, moment: float | int, how: signal.Signals) -> bool:
    """Starts the verb and kills it after a time or before an operation; returns False if it had ended before."""
    at = moment if isinstance(moment, int) else None
    process = get_context("fork").Process(
        target=in_child, args=(lambda: counted(lambda: verb.act(folder), folder, at, how), folder, None)
    )
    process.start()
    if at is None:
        process.join(moment)
        if process.is_alive():
            os.kill(process.pid or 0, how)
            process.join()
            return True
        return False
    process.join()
    return process.exitcode not in (0, 1, 2)


def counted(act: Callable[[], object], folder: Path, last: int | None = None, how: int = signal.SIGKILL) -> int:
    """Runs `act` and counts its operations below `folder`; before the `last` one it sends itself the signal `how`."""
    count = 0

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        path = arguments[0] if arguments and isinstance(arguments[0], str | os.PathLike) else ""
        if str(folder) not in str(path):
            return
        if event in COUNTED or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            if count == last:
                os.kill(os.getpid(), how)

    sys.addaudithook(note)
    act()
    return count


def expect(function: Callable[[], Any], folder: Path) -> Any:
    """The result of `function` in a process of its own.

    Raises:
        RuntimeError: it raised.
    """
    kind, value = in_fork(function, folder)
    if kind != "done":
        raise RuntimeError(f"{value}\n{(folder / 'output.txt').read_text()[-4000:]}")
    return value


def in_fork(function: Callable[..., Any], folder: Path) -> Result:
    """`("done", result)` or `("failed", traceback)` of `function` in a process of its own."""
    receiver, sender = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=in_child, args=(function, folder, sender))
    process.start()
    sender.close()
    result: Result = ("failed", "the process said nothing")
    with contextlib.suppress(EOFError):
        result = receiver.recv()
    process.join()
    return result


def in_child(function: Callable[..., Any], folder: Path, sender: Any) -> None:
    """In the forked process: output into `folder`, which becomes the current one."""
    os.chdir(folder)
    with (folder / "output.txt").open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    code, result = 0, ("failed", "")
    try:
        result = ("done", function())
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
        result = ("failed", f"exit code {code}")
    except BaseException:
        code, result = 1, ("failed", traceback.format_exc())
        traceback.print_exc()
    if sender is not None:
        sender.send(result)
    sys.stderr.flush()
    os._exit(code)

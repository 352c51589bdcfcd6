"""`python -m lesion_exp.sweeps.launcher.fork_server`: a process with all imports done that forks a child for each cell.

Importing torch, Lightning, MLflow and albumentations takes seconds, and so does reading, splitting and auditing a data
set, while training a small cell hardly takes longer. So one process does both once, without using a device, opening a
store of runs or starting a thread, and forks; cells with the same data and split share its memory. Networks are tried
there without computing anything (on torch's device meta), which also imports their library. It reads a line of
JSON for each cell from standard input (`{"folder": .., "environment": {..}, "threads": ..}`), or `{"stop": folder}`. It
answers on standard output: `{"ready": true}` once, and `{"ended": folder, "code": ..}` for each cell; the code is the
negative number of the signal if a signal ended it. When its input ends, because its parent is gone, it ends the cells.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from lesion_exp.tracking.environment import share_source_state

PRELOADED: Final = (
    "lesion_exp.sweeps.run_cell",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.artifact.local_artifact_repo",
    "alembic.config",
    "sqlalchemy.dialects.sqlite",
    "torchvision.models",
    "albumentations",
    "sklearn.isotonic",
    "sklearn.model_selection",
    "sklearn.metrics",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "pyarrow.parquet",
    "cv2",
)
"""Modules that every cell imports."""
GRACE_SECONDS: Final = 60
"""Time that a cell has to close its run after SIGTERM."""


class ForkServer:
    """Forks cells and reports how they ended."""

    def __init__(self) -> None:
        self.cells: dict[int, str] = {}
        """The folder of the cell of each child process."""
        self._events, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the output of libraries must not be read as an answer

    def serve(self) -> None:
        """Serves until the input ends, then asks every cell to end."""
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C reaches all processes of the terminal; the driver of the sweep decides
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake)
        self._answer({"ready": True})
        commands = sys.stdin.buffer
        os.set_blocking(commands.fileno(), False)
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(commands.fileno(), selectors.EVENT_READ)
            selector.register(self._events, selectors.EVENT_READ)
            try:
                while True:
                    ready = {key.fd for key, _ in selector.select()}
                    if self._events in ready:
                        os.read(self._events, 4096)
                        self._reap()
                    if commands.fileno() in ready:
                        read = os.read(commands.fileno(), 65536)
                        if not read:
                            return
                        *lines, rest = (rest + read).split(b"\n")
                        for line in lines:
                            self._obey(json.loads(line))
            finally:
                self._end_cells()

    def _obey(self, command: dict[str, Any]) -> None:
        if "stop" in command:
            for pid, folder in self.cells.items():
                if folder == command["stop"]:
                    os.kill(pid, signal.SIGTERM)
            return
        self._prepare(Path(command["folder"]))
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_cell(parent, command)
        self.cells[pid] = command["folder"]

    def _prepare(self, folder: Path) -> None:
        """Imports the options of a cell, reads and splits its data, and tries its network, unless those of an earlier
        one were the same."""
        from lesion_exp.config.instantiate import import_own_targets
        from lesion_exp.sweeps.cell import Cell
        from lesion_exp.training.check_training import share_trial
        from lesion_exp.training.shared_split import share_split

        logging.disable()  # the driver has said what is to be said of the data when it checked the cells
        try:
            config = Cell(folder).job().config
            import_own_targets(config)
            split = share_split(config)
            if split is not None:
                share_trial(config, split)
        except Exception:
            return  # the cell meets the same error, and records it
        finally:
            logging.disable(logging.NOTSET)

    def _become_cell(self, parent: int, command: dict[str, Any]) -> NoReturn:
        """Runs the cell in the child process, with its own session, log and environment; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            from lesion_exp.process.signals import end_on_sigterm, end_with_parent

            end_on_sigterm()
            end_with_parent(parent)
            _redirect(Path(command["folder"]) / "log.txt")
            os.environ.update(command["environment"])
            if command["threads"]:
                import torch

                torch.set_num_threads(command["threads"])
            from lesion_exp.process.messages import show_messages
            from lesion_exp.sweeps.cell import Cell
            from lesion_exp.sweeps.run_cell import run_cell

            show_messages(in_a_file=True)
            code = run_cell(Cell(Path(command["folder"])))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while self.cells:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            folder = self.cells.pop(pid, None)
            if folder is not None:
                self._answer({"ended": folder, "code": os.waitstatus_to_exitcode(status)})

    def _answer(self, body: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(body), file=self._answers, flush=True)

    def _end_cells(self) -> None:
        for pid in self.cells:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        signal.signal(signal.SIGALRM, lambda *_: self._kill_cells())
        signal.alarm(GRACE_SECONDS)
        while self.cells:
            pid, _ = os.waitpid(-1, 0)
            self.cells.pop(pid, None)
        signal.alarm(0)

    def _kill_cells(self) -> None:
        for pid in self.cells:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _redirect(log: Path) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(handle, 1)
    os.dup2(handle, 2)


def main() -> int:
    """Imports the modules, then serves."""
    for name in PRELOADED:
        importlib.import_module(name)
    share_source_state()
    gc.collect()
    gc.freeze()  # what cells share is not examined by their collections of garbage, which would copy it
    try:
        ForkServer().serve()
    finally:
        gc.unfreeze()  # libraries report what is not collected at the end as leaked
    return 0


if __name__ == "__main__":
    sys.exit(main())

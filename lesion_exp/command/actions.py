"""What each verb does, from its arguments to its exit code; heavy rooms are imported inside."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from lesion_exp.command.arguments import (
    Arguments,
    check_store_keys,
    compose_config,
    compose_job,
    open_store_of,
    prepare_process,
)
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.errors import ConfigError
from lesion_exp.terminal import console, say

LAST_PORT: Final = 65535
LENGTHS: Final = ("trainer.max_epochs", "trainer.max_steps")
"""Keys with which `resume` trains a run longer."""


def train(arguments: Arguments) -> int:
    """Runs one job, or a sweep; the last line of standard output is the id of its run."""
    if arguments.multirun or _has_space(arguments):
        from lesion_exp.command.sweep import launch

        return launch(arguments)
    for override in arguments.overrides:
        if override.lstrip("+~").startswith(("launcher", "search", "force=")):
            raise ConfigError(f"expected -m with {override}: it is about the cells of a sweep, and this is one run")
    job = compose_job(arguments)
    if job is None:
        return 0
    from lesion_exp.training.run import train as run_train

    result = run_train(job)
    _show_end(result.run_id)
    return 0


def _has_space(arguments: Arguments) -> bool:
    """Whether a preset brings values to try of its own, so that the command means a sweep without saying so."""
    if not any(word.startswith(("experiment=", "search", "+search")) for word in arguments.overrides):
        return False
    prepare_process(arguments)
    kept = [word for word in arguments.overrides if not word.startswith("force=")]
    return bool(compose_config(replace(arguments, overrides=kept)).search["space"])


def resume(arguments: Arguments) -> int:
    """Goes on with a run that stopped, or trains one longer; the last line of standard output is the run's id."""
    spec = arguments.need("run", "latest")
    root = arguments.take("dataset.root")
    changes = {key: _whole_number(key, value) for key in LENGTHS if (value := arguments.take(key))}
    store, paths = open_store_of(arguments)
    run, data_root = chosen_run(store, spec), Path(root) if root else None
    if changes:
        from lesion_exp.verbs.resume.extend import extend

        result = extend(run, changes, paths, data_root)
    else:
        from lesion_exp.verbs.resume.resume import resume as resume_run

        result = resume_run(run, paths, data_root)
    _show_end(result.run_id)
    return 0


def _whole_number(key: str, text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise ConfigError(f"expected {key} to be a whole number of at least 1, got {text!r}; for example {key}=60")
    return int(text)


def _show_end(run_id: str) -> None:
    """Where to look, and the run's id on standard output; of several processes of a run the first one says it."""
    if not run_id:
        return
    say(
        f"\nlook at it:  {_command()} ui     (then open the address it prints)\n"
        f"artifacts:   predictions, confusion matrices, curves and checkpoints lie with the run",
        sys.stderr,
    )
    print(run_id)


def prepare(arguments: Arguments) -> int:
    """Checks a data set and builds its store."""
    job = compose_job(arguments, shown=("dataset", "split", "task"))
    if job is None:
        return 0
    from lesion_exp.verbs.prepare import prepare as run_prepare
    from lesion_exp.verbs.prepare import show

    summary = run_prepare(job).summary
    show(summary, console(sys.stderr))
    if arguments.json:
        print(json.dumps(summary))
    return 0


def preview(arguments: Arguments) -> int:
    """Draws augmented images; the last line of standard output is the picture's path."""
    job = compose_job(arguments, shown=("dataset", "split", "augmentation", "task"))
    if job is None:
        return 0
    from lesion_exp.verbs.preview import preview as run_preview

    print(run_preview(job).path)
    return 0


def ui(arguments: Arguments) -> int:
    """Serves MLflow's page until Ctrl-C."""
    host = arguments.take("host") or "127.0.0.1"
    port = arguments.take("port") or "5000"
    if not (port.isdecimal() and 1 <= int(port) <= LAST_PORT):
        raise ConfigError(f"expected port to be a number from 1 to {LAST_PORT}, got {port!r}; for example port=5001")
    check_store_keys(arguments)
    arguments.show_tree = False
    job = compose_job(arguments)
    if job is None:
        return 0
    from lesion_exp.tracking.ui import run_ui
    from lesion_exp.training.tracked import open_job_store

    run_ui(open_job_store(job.config), job.config["tracking"]["experiment"], host, int(port))
    return 0


def _command() -> str:
    """How this user starts the program: by its name where that is on the path."""
    from shutil import which

    started = Path(sys.argv[0])
    if which("lesion-exp"):
        return "lesion-exp"
    if started.name != "lesion-exp":
        return "python -m lesion_exp"
    inside = started.is_absolute() and started.is_relative_to(Path.cwd())
    return str(started.relative_to(Path.cwd()) if inside else started)

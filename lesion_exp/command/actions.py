"""The verbs `train`, `resume`, `prepare`, `preview` and `ui`, from their arguments to an exit code.

Heavy rooms are imported inside the functions.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lesion_exp.command.arguments import (
    Arguments,
    check_store_keys,
    compose_config,
    compose_job,
    open_project,
    prepare_process,
)
from lesion_exp.command.chosen_run import ChosenRun, chosen_run, read_moved
from lesion_exp.errors import ConfigError
from lesion_exp.option import Kind, option, options_of, whole
from lesion_exp.privacy import without_secrets
from lesion_exp.process.distributed_environment import is_follower
from lesion_exp.progress import Stage
from lesion_exp.terminal import console, say, shell_words
from lesion_exp.trained_runs.moved_data import MovedTraining

LAST_PORT: Final = 65535
_LOADING: Final = "loading torch, Lightning and MLflow"


@dataclass(frozen=True)
class LongerTraining:
    """The options of `resume` that train a run longer."""

    max_epochs: int | None = option(
        None,
        whole(example="60"),
        "train until N epochs are done, in a new run that starts from the last checkpoint",
        key="trainer.max_epochs",
    )
    max_steps: int | None = option(
        None,
        whole(example="5000"),
        "train until N optimizer steps are done, also in a new run",
        key="trainer.max_steps",
    )

    @property
    def changes(self) -> dict[str, int]:
        """The keys of the config that change, with their new values."""
        values = {one.key: getattr(self, one.field) for one in options_of(type(self))}
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class OtherProcesses:
    """The option of `resume` that goes on with other processes than the job asks for."""

    devices: int | None = option(
        None,
        whole(example="1"),
        "go on with N processes of this machine; each step keeps its images",
        key="trainer.devices",
    )


@dataclass(frozen=True)
class PageAddress:
    """The options of `ui`."""

    host: str = option("127.0.0.1", Kind("ADDRESS", "0.0.0.0", "an address"), "address to listen on")
    port: int = option(5000, whole(1, LAST_PORT, "5001"), "port to listen on")


def train(arguments: Arguments) -> int:
    """Runs one job, or a sweep; the last line of standard output is the id of its run."""
    arguments.joins_group = True
    if arguments.multirun or _has_space(arguments):
        arguments.joins_group = False
        from lesion_exp.command.sweep import launch

        return launch(arguments)
    for override in arguments.overrides:
        if override.lstrip("+~").startswith(("launcher", "search", "force=", "cell=")):
            raise ConfigError(
                f"expected -m beside {override}, which concerns the cells of a sweep, got a single run; add -m and "
                f"several values of a key, such as seed=1,2 (launcher=slurm and launcher=ray also take a single run), "
                f"or leave {override} out"
            )
    job = compose_job(arguments)
    if job is None:
        return 0
    from lesion_exp.training.data import read_ahead
    from lesion_exp.training.first_checks import check_without_torch

    check_without_torch(job.config)
    if isinstance(job.config["trainer"]["devices"], list):  # indices of GPUs, which torch alone can count
        from lesion_exp.model.precision import check_accelerator

        check_accelerator(job.config["trainer"], "trainer=cpu trains without a GPU")
    with ExitStack() as block:
        if not is_follower():  # one process reads for all
            from lesion_exp.process.peers import leading

            with leading():
                block.enter_context(read_ahead(job.config["dataset"]))
        with Stage(_LOADING, background=True):
            from lesion_exp.training.run import train as run_train

        result = run_train(job)
    _show_end(result.run_id, arguments, pretrains="pretrain" in job.config)
    return 0


def _has_space(arguments: Arguments) -> bool:
    """Whether a preset brings a search space, so that the command is a sweep without -m."""
    if not any(word.startswith(("experiment=", "search", "+search")) for word in arguments.overrides):
        return False
    prepare_process(arguments)
    kept = [word for word in arguments.overrides if not word.startswith(("force=", "cell="))]
    return bool(compose_config(replace(arguments, overrides=kept)).search["space"])


def resume(arguments: Arguments) -> int:
    """Continues a run that stopped, or trains a run longer; the last line of standard output is the run's id."""
    arguments.joins_group = True
    spec, places = arguments.read(ChosenRun).run, read_moved(arguments, MovedTraining).places
    changes, devices = arguments.read(LongerTraining).changes, arguments.read(OtherProcesses).devices
    if changes and devices is not None:
        raise ConfigError(
            f"expected trainer.devices alone, which continues a run, or what trains it for longer, got "
            f"trainer.devices={devices} {' '.join(f'{key}={value}' for key, value in changes.items())}; resume the run "
            f"first, then extend it"
        )
    prepare_process(arguments)
    if is_follower():
        from lesion_exp.training.run import follow

        follow()
        return 0
    from lesion_exp.process.peers import begun_before, leading

    with leading():
        project = open_project(arguments)
        begun = begun_before()
        if begun is not None:  # torchrun has started the processes again: `latest` may name another run by now
            from lesion_exp.training.together import closed_run

            run, changes = closed_run(project, begun), {}
        else:
            run = chosen_run(project.store, spec)
        from lesion_exp.trained_runs.finished_run import check_unfinished
        from lesion_exp.trained_runs.trained_run import check_trains, reading_ahead, trained_run

        check_trains(run)
        if not changes:
            check_unfinished(run)
        with reading_ahead(trained_run(run, project, places)):
            with Stage(_LOADING, background=True):
                from lesion_exp.verbs.resume import extend
                from lesion_exp.verbs.resume import resume as resume_run

            result = extend(run, changes, project, places) if changes else resume_run(run, project, places, devices)
    _show_end(result.run_id, arguments)
    return 0


def _show_end(run_id: str, arguments: Arguments, *, pretrains: bool = False) -> None:
    """Says where to look at the run, and prints its id. Only the first of several processes has the id."""
    if not run_id:
        return
    words = without_secrets(shell_words(arguments.places()))
    place = f" {words}" if words else ""
    report = f"{_command()} report run={run_id[:8]} output=report.html{place}     (one page)\nor:          "
    page = "" if pretrains else report
    say(f"\nlook at it:  {page}{_command()} ui{place}     (MLflow: open the address that it prints)", sys.stderr)
    print(run_id)


def prepare(arguments: Arguments) -> int:
    """Checks a data set and builds its image store."""
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
    """Draws augmented images; the last line of standard output is the path of the picture."""
    job = compose_job(arguments, shown=("dataset", "split", "augmentation", "task"))
    if job is None:
        return 0
    from lesion_exp.training.data import read_ahead

    with read_ahead(job.config["dataset"]):
        from lesion_exp.verbs.preview import preview as run_preview

        print(run_preview(job).path)
    return 0


def ui(arguments: Arguments) -> int:
    """Serves MLflow's web page until Ctrl-C."""
    page = arguments.read(PageAddress)
    check_store_keys(arguments)
    arguments.show_tree = False
    job = compose_job(arguments)
    if job is None:
        return 0
    from lesion_exp.tracking.ui import run_ui

    run_ui(job.project.store, job.config["tracking"]["experiment"], page.host, page.port)
    return 0


def _command() -> str:
    """The command with which this user starts the program: `lesion-exp` if it is on the path."""
    from shutil import which

    started = Path(sys.argv[0])
    if which("lesion-exp"):
        return "lesion-exp"
    if started.name != "lesion-exp":
        return "python -m lesion_exp"
    inside = started.is_absolute() and started.is_relative_to(Path.cwd())
    return str(started.relative_to(Path.cwd()) if inside else started)

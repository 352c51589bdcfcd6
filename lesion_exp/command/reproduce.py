"""The verb `reproduce`: runs a job again and compares the results."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lesion_exp.command.arguments import Arguments, open_project
from lesion_exp.command.chosen_run import RUN, RUN_NAMES, chosen_run, read_moved, run_of_bundle
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.option import file, option
from lesion_exp.process.distributed_environment import refuse_group
from lesion_exp.terminal import say
from lesion_exp.verbs.reproduce.request import ReproductionRequest, check_comparable

if TYPE_CHECKING:
    from lesion_exp.config.freeze import Job
    from lesion_exp.tracking.store import Store
    from lesion_exp.tracking.stored_run import Run

SAME, DIVERGED, NOTHING_COMPARED = 0, 1, 1
_JOB_ENDINGS: Final = (".yaml", ".yml")


@dataclass(frozen=True)
class ReproduceOptions:
    """What `reproduce` runs again; one of these options is given."""

    run: str | None = option(None, RUN, f"{RUN_NAMES}, or of a frozen job")
    job: Path | None = option(
        None, file("job.yaml"), "a frozen job file; it is compared with its first run in the store"
    )
    bundle: Path | None = option(None, file("run.zip"), "an exported run; it is imported into the store first")


def reproduce(arguments: Arguments) -> int:
    """Runs a job again and compares; returns 0 if the results are equal or nearly so.

    Returns 1 if they diverged, or if conditions were to be compared and the store has no run to compare with.
    """
    refuse_group("reproduce")
    request = read_moved(arguments, ReproductionRequest)
    key, spec = _source(arguments)
    frozen = _read(spec) if key == "job" else None
    project = open_project(arguments)
    from lesion_exp.config.freeze import relocated
    from lesion_exp.config.places import check_places

    run: Run | None = None
    if frozen is None:
        run = _run(project.store, key, spec)
        frozen = _job_of(run, trains="--check-only" not in arguments.flags)
    job = relocated(frozen, replace(project, store_uri=project.store.uri), request.places)
    check_places(job.config, request.places)
    from lesion_exp.verbs.reproduce.reproduce import check, first_run, train_again
    from lesion_exp.verbs.reproduce.reproduction_report import (
        as_json,
        comparison_json,
        comparison_lines,
        condition_lines,
    )

    run = run or first_run(project.store, frozen)
    if run is None:
        return _train_first(job, arguments)
    checked = check(run, job)
    answer = as_json(run.run_id, job.job_hash, checked)
    if not arguments.json:
        say("\n".join([f"reproducing run {run.run_id} ({run.name})", *condition_lines(checked)]))
    code = SAME
    if "--check-only" not in arguments.flags:
        new_id, verdict = train_again(run, job, checked, request.tolerance)
        answer |= comparison_json(new_id, verdict)
        code = DIVERGED if verdict.kind == "diverged" else SAME
        if not arguments.json:
            say("\n".join(comparison_lines(new_id, verdict)))
    if arguments.json:
        print(json.dumps(answer))
    return code


def _run(store: Store, key: str, spec: str) -> Run:
    """The run that `run=` or `bundle=` names."""
    return run_of_bundle(store, Path(spec).expanduser()) if key == "bundle" else chosen_run(store, spec)


def _source(arguments: Arguments) -> tuple[str, str]:
    """What is reproduced: `run`, `job` or `bundle`, and its name; `job` also for a job file that `run=` names."""
    wanted = arguments.read(ReproduceOptions)
    sources = {"run": wanted.run, "job": wanted.job, "bundle": wanted.bundle}
    given = {key: str(value) for key, value in sources.items() if value is not None}
    if len(given) != 1:
        got = " and ".join(f"{key}={value}" for key, value in given.items()) or "none of them"
        raise ConfigError(f"expected one of run=ID, job=FILE and bundle=FILE, got {got}; for example run=latest")
    ((key, value),) = given.items()
    if key != "run" and not Path(value).expanduser().is_file():
        raise ConfigError(f"expected a file at {key}={value}, found none; check the path")
    is_job = key == "run" and value.endswith(_JOB_ENDINGS) and Path(value).expanduser().is_file()
    return "job" if is_job else key, value


def _read(file: str) -> Job:
    from lesion_exp.config.freeze import read_job

    return read_job(Path(file).expanduser())


def _job_of(run: Run, *, trains: bool) -> Job:
    """The job of the run to compare with, which has to have finished if the job `trains` again."""
    from lesion_exp.trained_runs.trained_run import check_trains
    from lesion_exp.training.tracked import job_of

    check_trains(run)
    if trains:
        check_comparable(run)
    return job_of(run)


def _train_first(job: Job, arguments: Arguments) -> int:
    """Trains a job that has no finished run in the store; returns 1 if it was only to be compared with one."""
    from lesion_exp.training.run import train
    from lesion_exp.verbs.reproduce.reproduction_report import as_json

    answer = {**as_json(None, job.job_hash, None), "verdict": "nothing to compare with"}
    checks_only = "--check-only" in arguments.flags
    message = f"no run of job {job.job_hash} has finished in this store: nothing to compare with"
    if checks_only:
        message += (
            "; export the run where it was trained (lesion-exp bundle export run=ID output=run.zip), and compare "
            f"with it here: {next_command('reproduce', 'bundle=run.zip', '--check-only')}"
        )
    if not arguments.json:
        say(message)
    if not checks_only:
        answer["new_run"] = train(job).run_id
        if not arguments.json:
            print(f"run {answer['new_run']}")
    if arguments.json:
        print(json.dumps(answer))
    return NOTHING_COMPARED if checks_only else SAME

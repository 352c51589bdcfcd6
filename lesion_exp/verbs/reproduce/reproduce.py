"""Runs a job again as a new run, which is linked to the first, and compares conditions, metrics and weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import torch

from lesion_exp.config.freeze import Job, file_digests
from lesion_exp.config.own_code import code_digests
from lesion_exp.config.registered import trusted_packages
from lesion_exp.data.data_fingerprint import TOTAL_TAG, parts_of
from lesion_exp.errors import UserError
from lesion_exp.model.checkpoint_file import weights_hash
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.environment import CODE_TAG, environment, source_state
from lesion_exp.tracking.find import find_run, runs_where
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import TRAINING_KINDS, Run, read_history
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from lesion_exp.training.run_context import RunContext
from lesion_exp.training.trainer import describe_resolved
from lesion_exp.verbs.reproduce.comparison import (
    CODE,
    DATA,
    FILES,
    RESOLVED,
    THREADS,
    Conditions,
    Difference,
    RunComparison,
    compare_runs,
    conditions,
    data_conditions,
    differences,
    is_of_data,
    is_untrusted,
    package_of,
)
from lesion_exp.verbs.reproduce.request import ReproductionRequest, check_comparable

log = logging.getLogger(__name__)

LINK_TAG: Final = "reproduces"
"""Tag of a run that repeats another, with the id of the first."""
VERDICT_TAG: Final = "reproduction"
THREADS_A_CORE: Final = 4
"""Largest number of threads per core that is restored from a recorded run."""
_BEST: Final = artifacts.checkpoint()
_THREADS_VARIABLE: Final = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Checked:
    """The conditions of a run, compared with the current ones."""

    num_conditions: int
    """The conditions that could be compared."""
    differences: list[Difference]
    num_threads: int | None
    """The recorded number of threads to train with; None leaves it unchanged."""
    not_compared: tuple[str, ...] = ()
    """Conditions of the data that the run recorded, if the present data cannot be read."""
    untrusted: tuple[str, ...] = ()
    """Files of packages of the user that the run recorded, and whose code may not be read now."""
    packages: tuple[str, ...] = ()
    """The packages of these files, as they were named when the run was trained."""


def first_run(store: Store, job: Job) -> Run | None:
    """Returns the first finished run of `job` in `store`; None if there is none."""
    finished = f"attributes.status = 'FINISHED' AND tags.job_hash = '{job.job_hash}'"
    runs = [run for run in runs_where(store, finished) if run.tags.get("kind") in TRAINING_KINDS]
    return next((run for run in reversed(runs) if LINK_TAG not in run.tags), None)


def check(run: Run, job: Job) -> Checked:
    """Compares the recorded conditions of `run` with those under which `job` would run now."""
    then, now = recorded_conditions(run, job), present_conditions(job, run.tags)
    unread = () if DATA in now else tuple(name for name in then if is_of_data(name))
    untrusted = tuple(name for name in then if is_untrusted(name, trusted_packages()))
    used = [tag.removeprefix(CODE_TAG) for tag in run.tags if tag.startswith(CODE_TAG)]
    packages = tuple(sorted({str(package_of(name, used)) for name in untrusted}))
    if used:  # if only clinic.losses was trusted, no other file of clinic was recorded
        now = {name: state for name, state in now.items() if not is_untrusted(name, used)}
    then = {name: state for name, state in then.items() if name not in (*unread, *untrusted)}
    noted = [_with_note(difference) for difference in differences(then, now)]
    recorded = int(then.get(THREADS, 0))
    most = THREADS_A_CORE * (os.cpu_count() or 1)
    threads = recorded if 1 <= recorded <= most else None
    return Checked(len({*then, *now}), noted, threads, not_compared=unread, untrusted=untrusted, packages=packages)


def recorded_conditions(run: Run, job: Job) -> Conditions:
    """Returns the conditions under which `run` of `job` was trained, as far as they were recorded."""
    texts = {}
    for name in FILES:
        path = run.fetch(artifacts.environment(name))
        if path is not None:
            texts[name] = path.read_bytes().decode("utf-8")
    resolved = {key: run.params[f"resolved.{key}"] for key in RESOLVED if f"resolved.{key}" in run.params}
    files = {f"file of {key}": digest for key, digest in job.files.items()}
    return {
        **conditions(texts, run.tags.get(TOTAL_TAG), run.tags.get("split_hash"), resolved),
        **data_conditions(parts_of(run.tags)),
        **files,
    }


def present_conditions(job: Job, recorded: Mapping[str, str]) -> Conditions:
    """Returns the conditions under which `job` would be trained now; its data are read for that, if they can be.

    `recorded` are the tags of the run to compare with, which determine how its data were recorded.
    """
    fingerprint = split_hash = None
    parts: Mapping[str, str] = {}
    try:
        split = split_data(job.config, load_data(job.config))
        data, split_hash = split.loaded.data, split.split_hash
        fingerprint, parts = data.known_as(recorded), data.parts if parts_of(recorded) else {}
    except UserError as error:
        log.warning("the data cannot be compared: %s", error)
    digests = file_digests(job.config)
    return {
        **conditions(
            environment(source_state(), torch.get_num_threads(), code_digests(job.config)),
            fingerprint,
            split_hash,
            describe_resolved(job.config["trainer"]),
        ),
        **data_conditions(parts),
        **{f"file of {key}": digests[key] for key in job.files if key in digests},
    }


def _with_note(difference: Difference) -> Difference:
    notes = {CODE: f"git checkout {difference.then} restores it" if difference.then else ""}
    if difference.name == THREADS and difference.then is not None:
        fits = int(difference.then) <= THREADS_A_CORE * (os.cpu_count() or 1)
        notes[THREADS] = (
            f"training uses {difference.then} again" if fits else "too many for this machine, so the number is not set"
        )
    return replace(difference, note=notes.get(difference.name, ""))


def train_again(
    run: Run, job: Job, checked: Checked, tolerance: float = ReproductionRequest.tolerance
) -> tuple[str, RunComparison]:
    """Trains `job` again; returns the id of the new run, which is linked by a tag, and its comparison with `run`.

    Raises:
        ConfigError: `run` has not finished.
        UserError: see `train`.
    """
    check_comparable(run)
    with using_threads(checked.num_threads):
        result = train(job, RunContext(tags={LINK_TAG: run.run_id}, name=f"{run.name} again"))
    again = find_run(run.store, result.run_id)
    weights = (_weights(run), _weights(again))
    comparison = compare_runs(read_history(run), read_history(again), weights, tolerance)
    run.store.client.set_tag(again.run_id, VERDICT_TAG, comparison.kind)
    return again.run_id, comparison


def _weights(run: Run) -> str | None:
    """The hash of the best weights; for runs of earlier versions it is computed from the checkpoint."""
    if "weights_hash" in run.tags:
        return run.tags["weights_hash"]
    path = run.fetch(_BEST)
    return None if path is None else weights_hash(path)


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Makes PyTorch use `count` threads, in this process and its children; None changes nothing."""
    if count is None:
        yield
        return
    before, variable = torch.get_num_threads(), os.environ.get(_THREADS_VARIABLE)
    torch.set_num_threads(count)
    os.environ[_THREADS_VARIABLE] = str(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if variable is None:
            del os.environ[_THREADS_VARIABLE]
        else:
            os.environ[_THREADS_VARIABLE] = variable

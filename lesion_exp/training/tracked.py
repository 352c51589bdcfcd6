"""Starts and resumes the MLflow run of a job, and reads the job of a run."""

from __future__ import annotations

import base64
import logging
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lesion_exp.config.command_words import place_words
from lesion_exp.config.freeze import Job, read_job
from lesion_exp.config.overrides import stored_overrides
from lesion_exp.config.own_code import code_digests, code_tags, joined_states, warn_of_other_code
from lesion_exp.data.data_fingerprint import TOTAL_TAG
from lesion_exp.dataset.display_name import display_name
from lesion_exp.errors import DataError, UserError
from lesion_exp.next_command import next_command
from lesion_exp.terminal import shell_line
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.environment import OWN_CODE, source_state, version_differences, versions
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.mlflow_values import flat_params
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_description import choice_tags, run_name
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import Run, download_artifact, read_stored_json
from lesion_exp.training.added_metrics import tags_of_added
from lesion_exp.training.data import SplitData, is_pretraining
from lesion_exp.training.run_context import NO_CONTEXT, RunContext

log = logging.getLogger(__name__)

REPLACED_TAG: Final = "own_configs"
"""Tag with the names of the shipped config files that were replaced by files of the user."""
_TAG: Final = "mlflow.job."
"""Prefix of the tags that contain a job; MLflow's page hides tags that begin with mlflow."""
_LONGEST_TAG: Final = 4000
"""Characters of a tag that every database which MLflow supports can store."""
_LARGEST_JOB: Final = 50_000_000
"""Largest unpacked job, bytes."""


def start_run(store: Store, job: Job, split: SplitData, *, kind: str, context: RunContext = NO_CONTEXT) -> TrackedRun:
    """Starts a run of `job`, or resumes the one that `context` continues; the result is a context manager.

    The run has tags that identify code, data and split, and contains the frozen job from its first moment, so that it
    can be resumed from then on. A run that is continued gets what had not been written before it stopped.

    Raises:
        DataError: the run that `context` continues was trained on other data or another split.
    """
    config = job.config
    tracking = config["tracking"]
    choices = job_choices(job)
    options: dict[str, Any] = {
        "flush_seconds": float(tracking["flush_seconds"]),
        "flush_every": int(tracking["flush_every"]),
        "system_metrics_seconds": float(tracking["system_metrics_seconds"]),
    }
    first = None if context.continues is None else find_run(store, context.continues)
    if first is not None:
        check_same_data(first, split)
        run = TrackedRun.resume(store, first.run_id, **options)
    else:
        own = own_tags(config["tags"])
        tags = {
            **own,  # first, so that they cannot replace others: a job from elsewhere may contain any
            **choice_tags(choices),
            **source_state().tags(),
            **versions(),
            **code_tags(config),
            "split_hash": split.split_hash,
            **split.loaded.data.tags(),
            "kind": kind,
            "job_hash": job.job_hash,
            "leaky": str(split.leaky).lower(),
            **tags_of_added(job.config),
            **context.tags,
            **job_tags(job),
        }
        name = str(
            context.name or tracking["run_name"] or run_name(choices, config["seed"], config["split"].get("fold"))
        )
        run = TrackedRun.start(store, tracking["experiment"], name, tags, **options)
    try:
        if first is not None:
            _compare_code(run, first, config, is_begun=context.checkpoint is not None)
        _write_job(run, job, choices, context.params)
    except BaseException as error:
        run.__exit__(type(error), error, error.__traceback__)
        raise
    return run


def _compare_code(run: TrackedRun, first: Run, config: Mapping[str, Any], *, is_begun: bool) -> None:
    """Warns if a run goes on with other code of the user than before, and records both states of the code in the run.

    Where no step of it was kept (`is_begun` is false), it is a run of the present code alone.
    """
    tags, files, kept = code_tags(config), code_digests(config), artifacts.environment(OWN_CODE)
    if is_begun:
        warn_of_other_code(first, config)
        tags = joined_states(run.tags_at_start, tags)
        before = (read_stored_json(first, kept) or {}) if tags else {}
        files = {**before, **joined_states(before, files)}
    if tags:
        run.set_tags(tags)
    if tags and files:  # a run of an earlier version recorded none
        run.log_json(files, kept)


def _write_job(run: TrackedRun, job: Job, choices: Mapping[str, str], further: Mapping[str, str]) -> None:
    """Logs the job as files, tags and parameters, unless the run has them already."""
    if not run.has_file(artifacts.JOB):
        with run.new_file(artifacts.JOB) as path:
            job.write(path)
    if not run.has_file(artifacts.OVERRIDES):
        lines = map(shell_line, stored_overrides(job.overrides))
        run.log_text("".join(f"{line}\n" for line in lines), artifacts.OVERRIDES)
    if job.replaced:
        log.info("config files of the user replace these shipped ones: %s", ", ".join(job.replaced))
        run.set_tags({REPLACED_TAG: ", ".join(job.replaced)})
    short = {**further, **choice_tags(choices)}  # short names, for the page's parallel coordinates
    run.log_missing_params({**short, **flat_params(job.config)})
    run.delete_tags(names_of_job_tags(run.tags_at_start))


def own_tags(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns the user's tags; the name of a nested one, such as `tags.study.arm=a`, is joined by dots: `study.arm`."""
    found: dict[str, str] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        found |= own_tags(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return found


def job_choices(job: Job) -> dict[str, str]:
    """Returns the options of the config groups by which runs are compared; of a pretraining, its method is the loss."""
    found = {
        "dataset": display_name(job.config["dataset"]),
        "backbone": str(job.config["backbone"].get("name") or job.options["backbone"]),
        **{group: job.options[group] for group in ("sampler", "loss", "split")},
    }
    return {**found, "loss": job.options["pretrain"]} if is_pretraining(job.config) else found


def check_same_data(run: Run, split: SplitData) -> None:
    """Checks that data and split are those of `run`; warns of other versions of packages.

    Raises:
        DataError: data or split differ; the message names the parts of the data that differ.
    """
    for line in version_differences(run.tags):
        log.warning("run %s was made with another %s", run.run_id, line)
    data, tags = split.loaded.data, run.tags
    changed = data.differences(tags)
    if changed:
        raise DataError(
            f"expected the data that run {run.run_id} was started on, but they differ in: {'; '.join(changed)} "
            f"({TOTAL_TAG} {tags.get(TOTAL_TAG)}, got {data.known_as(tags)}); restore them, or train again"
        )
    if tags.get("split_hash") != split.split_hash:
        raise DataError(
            f"expected the split that run {run.run_id} was started on, but the same data are dealt otherwise "
            f"(split_hash {tags.get('split_hash')}, got {split.split_hash}); use the version of lesion_exp that "
            f"started it, or train again"
        )


def job_tags(job: Job) -> dict[str, str]:
    """`job` as tags, with which a run is created, so that it has its job even if its process is killed at once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        job.write(path)
        text = base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()
    parts = [text[begin : begin + _LONGEST_TAG] for begin in range(0, len(text), _LONGEST_TAG)]
    return {f"{_TAG}{number}of{len(parts)}": part for number, part in enumerate(parts)}


def names_of_job_tags(tags: Mapping[str, str]) -> list[str]:
    """Returns the names of the `tags` that contain a job, in order."""
    return sorted((name for name in tags if name.startswith(_TAG)), key=lambda name: (len(name), name))


def job_of(run: Run) -> Job:
    """Returns the frozen job of `run`.

    Raises:
        DataError: the run has no job.
        ConfigError: the job is damaged, or was frozen by another version.
    """
    names = names_of_job_tags(run.tags)
    if run.fetch(artifacts.JOB) is not None or not names:
        return read_job(download_artifact(run, artifacts.JOB))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_bytes(_unpacked(run, "".join(run.tags[name] for name in names)))
        return read_job(path)


def _unpacked(run: Run, text: str) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(base64.b64decode(text, validate=True), _LARGEST_JOB)
    except (ValueError, zlib.error) as error:
        content = b""
        reason = str(error)
    else:
        reason = "its end is missing"
    if not unpacker.eof:
        raise DataError(
            f"expected the job of run {run.run_id} in its tags {_TAG}*, but they cannot be read: {reason}; train again"
        )
    return content


@contextmanager
def log_hint(run: TrackedRun, job: Job) -> Iterator[None]:
    """Logs the id of `run` at its start, and adds notes to an error: where the log is, and how to resume the run."""
    log.info("run %s", run.run_id)
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        state = "FAILED" if isinstance(error, Exception) else "KILLED"
        error.add_note(f"run {run.run_id}; its log is {run.live_dir / 'log.txt'}")
        command = next_command("resume", f"run={run.run_id}", *place_words(job.overrides, job.config))
        error.add_note(f"the run is marked {state}; {command} continues from its last checkpoint")
        raise

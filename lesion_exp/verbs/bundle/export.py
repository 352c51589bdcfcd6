"""Exports runs to a bundle; the same runs give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from lesion_exp.choices import STACKED
from lesion_exp.config.freeze import read_job, with_places
from lesion_exp.config.named_run import METHOD_TAG, TEACHER
from lesion_exp.errors import ConfigError, first_cases
from lesion_exp.next_command import next_command
from lesion_exp.privacy import anonymized
from lesion_exp.tracking.embedded import HEARTBEAT_TAG
from lesion_exp.tracking.find import runs_where, runs_with_tag
from lesion_exp.tracking.run_names import ORIGIN_TAG
from lesion_exp.tracking.stored_run import PARENT_TAG, Run, artifact_names, download_artifact, read_history
from lesion_exp.verbs.bundle import layout
from lesion_exp.version import __version__

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

log = logging.getLogger(__name__)

_COMPRESSED: Final = (".json", ".jsonl", ".txt", ".yaml", ".csv", ".patch", ".html")
"""Endings of members that are compressed; pictures, tables and checkpoints would not become smaller."""
_TEXTS: Final = (*_COMPRESSED, ".md", ".yml", ".html", "MLmodel")
_OF_METRICS: Final = ("evaluation/", "classification_report/", "confusion_matrix/", "split/", "predictions/")
"""Folders whose texts contain only numbers and names of classes."""
_USER_TAG: Final = "mlflow.user"
_RUN_ID: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Exported:
    """A bundle that was written."""

    path: Path
    run_ids: list[str]
    """Ids in the store where the runs were trained, in the order of the bundle."""
    num_bytes: int
    sha256: str


def with_children(runs: Sequence[Run]) -> list[Run]:
    """`runs`, each followed by the runs nested in it (the cells of a sweep), every run once."""
    found: dict[str, Run] = {}
    waiting = list(reversed(runs))
    while waiting:
        run = waiting.pop()
        if run.run_id not in found:
            found[run.run_id] = run
            waiting += runs_where(run.store, f"tags.`{PARENT_TAG}` = '{run.run_id}'")
    return list(found.values())


def _origin_ids(runs: Sequence[Run]) -> dict[str, str]:
    """Returns the origin ids of `runs`, and of all imported runs of their store, by the ids that they have there."""
    imported = runs_with_tag(runs[0].store, ORIGIN_TAG, bool)
    return {run.run_id: origin_of(run) for run in (*imported, *runs)}


def _with_origins(text: str, origins: Mapping[str, str]) -> str:
    """Returns `text` with the origin ids of the runs whose ids it has."""
    return _RUN_ID.sub(lambda found: origins.get(found[0], found[0]), text)


def _say_lacking(runs: Sequence[Run], origins: Mapping[str, str]) -> None:
    """Logs which runs are not exported with those that need them: teachers, and the networks of stacked ensembles."""
    exported = {origins[run.run_id] for run in runs}
    for run in runs:
        teacher = run.params.get(TEACHER)
        if teacher is not None and _with_origins(teacher, origins) not in exported:
            log.warning(
                "run %s learned from run %s, which the bundle does not have: to reproduce it elsewhere, export both: "
                "%s",
                run.run_id,
                teacher,
                next_command("bundle", "export", f"run=[{run.run_id[:8]},{teacher[:8]}]", "output=FILE"),
            )
        members = run.members if run.tags.get(METHOD_TAG) == STACKED else []
        lacking = [name for name in members if _with_origins(name, origins) not in exported]
        if lacking:
            named = ",".join(name[:8] for name in (run.run_id, *members))
            log.warning(
                "run %s predicts with the networks of other runs, of which the bundle lacks %s: to predict with it "
                "elsewhere, export all: %s",
                run.run_id,
                ", ".join(lacking),
                next_command("bundle", "export", f"run=[{named}]", "output=FILE"),
            )


def export_runs(runs: Sequence[Run], output: Path) -> Exported:
    """Writes `runs` to `output` completely or not at all; an earlier bundle of that name is replaced.

    Raises:
        ConfigError: a run has not ended, or `output` is another kind of file or in a folder that does not exist.
    """
    torn = [f"{run.run_id}  {run.name}" for run in runs if layout.INCOMPLETE_TAG in run.tags]
    if torn:
        raise ConfigError(
            f"expected whole runs, but the import of these was interrupted; import their bundle again first (bundle "
            f"import FILE):\n{first_cases(torn)}"
        )
    alive = [f"{run.run_id}  {run.status}  {run.name}" for run in runs if run.status not in layout.ENDED]
    if alive:
        raise ConfigError(
            f"expected runs that have ended, but these have not; wait for their end, or stop them:\n"
            f"{first_cases(alive)}"
        )
    if not output.parent.is_dir():
        raise ConfigError(f"expected a file in a folder that exists, got output={output}; make {output.parent} first")
    if output.exists() and not _is_bundle(output):
        raise ConfigError(f"expected a new file or an earlier bundle, got output={output}; choose another name")
    partial = output.with_name(f".{output.name}.part")
    origins = _origin_ids(runs)
    run_ids = [origins[run.run_id] for run in runs]
    _say_lacking(runs, origins)
    members: dict[str, dict[str, Any]] = {}
    try:
        with zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
            for run in runs:
                for name, source in _members(run, origins):
                    with source:
                        members[name] = _write(archive, name, source)
            manifest = {
                "format": layout.FORMAT,
                "made_by": f"lesion_exp {__version__}",
                "runs": run_ids,
                "members": members,
            }
            _write(archive, layout.MANIFEST, io.BytesIO(layout.to_json(manifest)))
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    with output.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Exported(output, run_ids, output.stat().st_size, digest)


def origin_of(run: Run) -> str:
    """Returns the id of `run` in the store where it was trained."""
    return run.tags.get(ORIGIN_TAG, run.run_id)


def _members(run: Run, origins: Mapping[str, str]) -> Iterator[tuple[str, IO[bytes]]]:
    origin = origins[run.run_id]
    known = run.store.client.get_run(run.run_id)
    yield layout.member(origin, layout.RUN_FILE), io.BytesIO(layout.to_json(_described(run, known, origins)))
    lines = [
        json.dumps([name, point.step, point.timestamp, layout.number(point.value)]) + "\n"
        for name, points in read_history(run).items()
        for point in points
    ]
    yield layout.member(origin, layout.METRICS_FILE), io.BytesIO("".join(lines).encode())
    for name in sorted(artifact_names(run)):
        full_name = layout.member(origin, layout.ARTIFACTS, name)
        if not layout.is_safe_name(full_name):
            log.warning("the artifact %r of run %s is left out: no bundle can hold such a name", name, run.run_id)
            continue
        yield full_name, _published_artifact(run, name, origins)


def _published_artifact(run: Run, name: str, origins: Mapping[str, str]) -> IO[bytes]:
    """An artifact for publication: names of users and machines and home folders are removed from texts, and the ids of
    other runs are those of the store where these were trained.
    """
    path = download_artifact(run, name)
    if not name.endswith(_TEXTS) or name.startswith(_OF_METRICS):
        return path.open("rb")
    people = _people(run)
    if name == layout.JOB_FILE:
        try:
            job = read_job(path)
        except ConfigError:  # a job of another version is treated as a text
            return _published_text(path, people, origins)
        config = with_places(job.config, job.files, lambda place: anonymized(place, people))
        config |= {key: anonymized(config[key], people) for key in ("tags", "tracking")}
        with tempfile.TemporaryDirectory(prefix="lesion_exp_job_") as folder:
            copy = Path(folder) / path.name
            replace(job, config=config, overrides=tuple(anonymized(list(job.overrides), people))).write(copy)
            return io.BytesIO(_with_origins(copy.read_text(encoding="utf-8"), origins).encode())
    return _published_text(path, people, origins)


def _published_text(path: Path, people: Collection[str], origins: Mapping[str, str]) -> IO[bytes]:
    try:
        text = _with_origins(path.read_bytes().decode("utf-8"), origins)
        return io.BytesIO(anonymized(text, people).encode())
    except UnicodeDecodeError:
        return path.open("rb")


def _people(run: Run) -> set[str]:
    return {run.tags[_USER_TAG]} if _USER_TAG in run.tags else set()


def _described(run: Run, known: MlflowRun, origins: Mapping[str, str]) -> dict[str, Any]:
    inputs = known.inputs.dataset_inputs if known.inputs else []
    people = _people(run)
    own_tags = {HEARTBEAT_TAG, ORIGIN_TAG, _USER_TAG, layout.CONTENT_TAG, *layout.LINK_TAGS}
    tags = {name: _with_origins(text, origins) for name, text in run.tags.items() if name not in own_tags}
    return {
        "run_id": origins[run.run_id],
        "name": anonymized(run.name, people),
        "status": run.status,
        "experiment": run.store.client.get_experiment(run.experiment_id).name,
        "start_time": known.info.start_time,
        "end_time": known.info.end_time,
        "links": {tag: _with_origins(run.tags[tag], origins) for tag in layout.LINK_TAGS if tag in run.tags},
        "params": anonymized({name: _with_origins(text, origins) for name, text in run.params.items()}, people),
        "tags": anonymized(tags, people),
        "inputs": sorted(
            (anonymized(_input(entry), people) for entry in inputs), key=lambda entry: (entry["name"], entry["digest"])
        ),
    }


def _input(entry: Any) -> dict[str, Any]:
    data = entry.dataset
    return {
        "name": data.name,
        "digest": data.digest,
        "source_type": data.source_type,
        "source": data.source,
        "schema": data.schema,
        "profile": data.profile,
        "tags": {tag.key: tag.value for tag in entry.tags},
    }


def _write(archive: zipfile.ZipFile, name: str, source: IO[bytes]) -> dict[str, Any]:
    """Adds a member without time and owner; returns its size and digest."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(_COMPRESSED) else zipfile.ZIP_STORED
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=True) as target:
        while block := source.read(_BLOCK):
            target.write(block)
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _is_bundle(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return layout.MANIFEST in archive.namelist()

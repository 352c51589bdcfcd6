"""The frozen job of a run in its tags, from the moment that the run is made until the job is among its artifacts."""

from __future__ import annotations

import base64
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lesion_exp.config.freeze import Job, read_job
from lesion_exp.errors import DataError
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import Run, download_artifact

_TAG: Final = "mlflow.job."
"""Tags that begin with mlflow. are not shown in its page."""
_LONGEST_TAG: Final = 4000
"""Characters; what every database that MLflow supports takes."""
_LARGEST_JOB: Final = 50_000_000
"""Bytes of a job that was packed."""


def job_tags(job: Job) -> dict[str, str]:
    """`job` as tags for a run that is made, whose process may be killed right afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        job.write(path)
        text = base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()
    parts = [text[begin : begin + _LONGEST_TAG] for begin in range(0, len(text), _LONGEST_TAG)]
    return {f"{_TAG}{number}of{len(parts)}": part for number, part in enumerate(parts)}


def names_of_job_tags(tags: Mapping[str, str]) -> list[str]:
    """Those of `tags` that hold a job, in their order."""
    return sorted((name for name in tags if name.startswith(_TAG)), key=lambda name: (len(name), name))


def job_of(run: Run) -> Job:
    """The frozen job of `run`.

    Raises:
        DataError: the run has none.
        ConfigError: it is damaged, or was made by another version.
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
            f"expected the job of run {run.run_id} in its tags {_TAG}*, but they cannot be read: {reason}; train anew"
        )
    return content

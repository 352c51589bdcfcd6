"""A job: one frozen, fully resolved config with a hash, in memory or as a file."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from lesion_exp import __version__
from lesion_exp.errors import ConfigError
from lesion_exp.job.compose import Composed

FORMAT: Final = 1
NOT_HASHED: Final = (
    "paths",
    "tracking",
    "launcher",
    "tags",
    "print_config",
    "loader.num_workers",
    "loader.evaluation_batch_size",
    "dataset.root",
    "trainer.log_every_n_steps",
)
"""Keys that cannot change a result: where things lie, how they are recorded, how many processes load them."""


@dataclass(frozen=True)
class Job:
    """What a run is made from; nothing after it reads `conf/` or the command line."""

    config: dict[str, Any]
    overrides: tuple[str, ...]
    job_hash: str

    def write(self, path: Path) -> None:
        """Writes the job as YAML, whole or not at all."""
        command = " ".join(self.overrides)
        head = f"# A frozen job of lesion_exp {__version__}; run it again with: lesion-exp train job={path.name}\n"
        body = {
            "format": FORMAT,
            "job_hash": self.job_hash,
            "version": __version__,
            "overrides": list(self.overrides),
            "config": self.config,
        }
        text = f"{head}# It was made by: lesion-exp train {command}\n{yaml.safe_dump(body, sort_keys=False, width=120)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)


def freeze(composed: Composed) -> Job:
    """The job of a composed config."""
    return Job(copy.deepcopy(composed.config), composed.overrides, job_hash(composed.config))


def read_job(path: Path) -> Job:
    """The job in a file that `Job.write` made.

    Raises:
        ConfigError: no such file, not a job, or a config that was changed by hand and no longer has its hash.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"expected a job file at job={path}, but it cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected a job file in YAML at job={path}, but it cannot be parsed: {error}") from error
    keys = {"format", "job_hash", "config", "overrides"}
    if not isinstance(body, dict) or not keys <= set(body) or not isinstance(body["config"], dict):
        raise ConfigError(f"expected a job (with {', '.join(sorted(keys))}) at job={path}, got another file")
    if body["format"] != FORMAT:
        raise ConfigError(
            f"expected a job of format {FORMAT}, got {body['format']} in {path}; use the version that made it"
        )
    found = job_hash(body["config"])
    if found != body["job_hash"]:
        raise ConfigError(
            f"expected the job in {path} as it was frozen, but its config was changed: hash {found}, recorded "
            f"{body['job_hash']}; make a new job with lesion-exp train and the overrides in the file"
        )
    return Job(body["config"], tuple(map(str, body["overrides"])), found)


def job_hash(config: dict[str, Any]) -> str:
    """16 hexadecimal digits over everything in `config` that can change a result."""
    kept = copy.deepcopy(config)
    for key in NOT_HASHED:
        *parents, leaf = key.split(".")
        node: Any = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(leaf, None)
    sets = kept.get("dataset", {}).get("sets")
    if isinstance(sets, dict):  # the folders of a combined set are paths, too
        kept["dataset"]["sets"] = {
            name: {key: part for key, part in value.items() if key != "root"} if isinstance(value, dict) else None
            for name, value in sets.items()
        }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

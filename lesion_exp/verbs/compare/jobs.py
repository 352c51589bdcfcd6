"""Runs grouped into jobs: the runs of a job differ only in their seed."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.config.freeze import NOT_HASHED, job_hash, read_job
from lesion_exp.errors import ConfigError
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.mlflow_values import flat_params
from lesion_exp.tracking.run_description import CHOICES
from lesion_exp.tracking.stored_run import Run

DATA_TAGS: Final = ("dataset_fingerprint", "split_hash")
CODE_TAGS: Final = ("git_commit",)
PREDICTING: Final = ("tta",)
"""The keys of `evaluation` that change predictions."""


@dataclass(frozen=True)
class ComparedJob:
    """A job with its runs."""

    letter: str
    runs: tuple[Run, ...]
    seeds: tuple[str, ...]
    config: Mapping[str, Any]
    """The config of the first run, or its parameters in MLflow if it has no job file."""

    @property
    def name(self) -> str:
        """The name of the runs, without the seed if there are several, and with the choices that it lacks."""
        first = self.runs[0]
        seed = rf"(^| )(s|seed=){re.escape(self.seeds[0])}(?= |$)"
        name = re.sub(seed, "", first.name).strip() or first.name if len(self.runs) > 1 else first.name
        chosen = [first.tags[choice] for choice in CHOICES if choice in first.tags]
        untold = [option for option in chosen if not re.search(rf"(?<![^\W_]){re.escape(option)}(?![^\W_])", name)]
        return f"{name} ({' '.join(untold)})" if untold else name

    @property
    def has_network(self) -> bool:
        """Whether the job trained a network; ensembles and imported predictions have no config of one."""
        return "backbone" in self.config

    @property
    def title(self) -> str:
        """The name with the seeds."""
        if not any(self.seeds):  # an ensemble, or imported predictions
            return self.name
        if len(self.seeds) == 1 and re.search(rf"\bseed={re.escape(self.seeds[0])}\b", self.name):
            return self.name
        return f"{self.name}, seed{'s' if len(self.seeds) > 1 else ''} {', '.join(self.seeds)}"


def jobs_of(runs: Sequence[Run]) -> tuple[ComparedJob, ...]:
    """Groups `runs` into jobs, with letters in the order of their first runs.

    The runs of a job have the same data, split and config (see `predicting_config`) except for `seed`, and different
    seeds. A run with the same config and seed as another one is a job of its own, because the two do not show the
    variation between seeds.

    Raises:
        ConfigError: a run is named twice, there are more jobs than letters, or the job file of a run was changed.
    """
    doubled = sorted({run.run_id for run in runs if [other.run_id for other in runs].count(run.run_id) > 1})
    if doubled:
        raise ConfigError(f"expected different runs, but {', '.join(doubled)} was named more than once; name it once")
    groups: dict[tuple[object, ...], list[Run]] = {}
    seeds, configs = {}, {}
    for run in runs:
        seeds[run.run_id], configs[run.run_id], same = _identity_of(run)
        repeated = 0
        while seeds[run.run_id] in {seeds[other.run_id] for other in groups.get((*same, repeated), [])}:
            repeated += 1
        groups.setdefault((*same, repeated), []).append(run)
    if len(groups) > len(string.ascii_uppercase):
        raise ConfigError(
            f"expected at most {len(string.ascii_uppercase)} jobs to compare, got {len(groups)}; name fewer runs"
        )
    return tuple(
        ComparedJob(letter, tuple(group), tuple(seeds[run.run_id] for run in group), configs[group[0].run_id])
        for letter, group in zip(string.ascii_uppercase, groups.values(), strict=False)
    )


def predicting_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config without the keys that only affect how predictions are evaluated."""
    kept = {key: value for key, value in config.items() if key not in {"evaluation", "test"}}
    evaluation = config.get("evaluation", {})
    return {**kept, "evaluation": {key: evaluation[key] for key in PREDICTING if key in evaluation}}


def one_job_for_each_run(job: ComparedJob) -> tuple[ComparedJob, ...]:
    """Returns a job for each run of `job`."""
    return tuple(
        ComparedJob(letter, (run,), (seed,), {**job.config, "seed": seed})
        for letter, run, seed in zip(string.ascii_uppercase, job.runs, job.seeds, strict=False)
    )


def _identity_of(run: Run) -> tuple[str, Mapping[str, Any], tuple[object, ...]]:
    """The seed of a run, its config, and a key that is the same for all runs of its job."""
    path = run.fetch(artifacts.JOB)
    if path is None:
        return run.params.get("seed", ""), run.params, (run.run_id,)
    job = read_job(path)
    without_seed = {key: value for key, value in predicting_config(job.config).items() if key != "seed"}
    data = [run.tags.get(tag) for tag in DATA_TAGS]
    return str(job.config["seed"]), job.config, (job_hash(without_seed, job.files), *data)


def config_differences(jobs: Sequence[ComparedJob]) -> dict[str, dict[str, str | None]]:
    """Returns, for each flat key that differs, the value in each job by its letter; None if the job has no such key.

    Keys that cannot change predictions (`freeze.NOT_HASHED`, and those that `predicting_config` drops) are left out,
    and jobs without the config of a network differ in no key from others. The tags of data, split and code are the last
    keys.
    """
    values = {job.letter: _flat(job) for job in jobs}
    trained = {job.letter for job in jobs if job.has_network}
    keys = dict.fromkeys(key for flat in values.values() for key in flat)
    rows = {key: {letter: flat.get(key) for letter, flat in values.items()} for key in keys}
    compared = {key: [row[letter] for letter in row if _is_tag(key) or letter in trained] for key, row in rows.items()}
    return {key: row for key, row in sorted(rows.items(), key=_tags_last) if len(set(compared[key])) > 1}


def _flat(job: ComparedJob) -> dict[str, str]:
    flat = {}
    if job.has_network:
        params = flat_params(predicting_config(job.config))
        flat = {key: value for key, value in params.items() if not _is_left_out(key)}
        flat["seed"] = ", ".join(sorted(job.seeds))
    tags = {tag: sorted({run.tags.get(tag, "unknown") for run in job.runs}) for tag in (*DATA_TAGS, *CODE_TAGS)}
    return flat | {f"tag {tag}": ", ".join(found) for tag, found in tags.items()}


def _is_left_out(key: str) -> bool:
    return any(key == left_out or key.startswith(f"{left_out}.") for left_out in NOT_HASHED)


def _is_tag(key: str) -> bool:
    return key.startswith("tag ")


def _tags_last(row: tuple[str, Mapping[str, str | None]]) -> tuple[bool, str]:
    return _is_tag(row[0]), row[0]

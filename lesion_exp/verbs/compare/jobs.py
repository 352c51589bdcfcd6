"""Runs sorted into jobs: runs whose configs differ in their seed alone are one job."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.config.freeze import NOT_HASHED, job_hash, read_job
from lesion_exp.errors import ConfigError
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import Run
from lesion_exp.tracking.params import flat_params
from lesion_exp.tracking.run_description import CHOICES

DATA_TAGS: Final = ("dataset_fingerprint", "split_hash")
CODE_TAGS: Final = ("git_commit",)
PREDICTING: Final = ("tta",)
"""Keys of `evaluation` that change predictions."""


@dataclass(frozen=True)
class ComparedJob:
    """A job with its runs."""

    letter: str
    runs: tuple[Run, ...]
    seeds: tuple[str, ...]
    config: Mapping[str, Any]
    """That of the first run; its parameters in MLflow where it kept no job file."""

    @property
    def name(self) -> str:
        """The name of the runs, without the seed where there are several, with the choices that it does not tell."""
        first = self.runs[0]
        seed = rf"(^| )(s|seed=){re.escape(self.seeds[0])}(?= |$)"
        name = re.sub(seed, "", first.name).strip() or first.name if len(self.runs) > 1 else first.name
        untold = [first.tags[choice] for choice in CHOICES if first.tags.get(choice, name) not in name]
        return f"{name} ({' '.join(untold)})" if untold else name

    @property
    def title(self) -> str:
        """The name with the seeds, once."""
        if len(self.seeds) == 1 and re.search(rf"\bseed={re.escape(self.seeds[0])}\b", self.name):
            return self.name
        return f"{self.name}, seed{'s' if len(self.seeds) > 1 else ''} {', '.join(self.seeds)}"


def jobs_of(runs: Sequence[Run]) -> tuple[ComparedJob, ...]:
    """The jobs of `runs`, lettered in the order of their first runs.

    One job are runs with the same data, split and config (see `what_predicts`) but for `seed`, and with different
    seeds: a run and its repetition with the same seed say nothing about seeds, so the repetition stands for itself.

    Raises:
        ConfigError: a run is named twice, there are more jobs than letters, or a run's job file was changed.
    """
    doubled = sorted({run.run_id for run in runs if [other.run_id for other in runs].count(run.run_id) > 1})
    if doubled:
        raise ConfigError(f"expected different runs, but {', '.join(doubled)} was named more than once; leave it out")
    members: dict[tuple[object, ...], list[Run]] = {}
    seeds, configs = {}, {}
    for run in runs:
        seeds[run.run_id], configs[run.run_id], same = _made_from(run)
        repeated = 0
        while seeds[run.run_id] in {seeds[other.run_id] for other in members.get((*same, repeated), [])}:
            repeated += 1
        members.setdefault((*same, repeated), []).append(run)
    if len(members) > len(string.ascii_uppercase):
        raise ConfigError(f"expected at most {len(string.ascii_uppercase)} jobs to compare, got {len(members)}")
    return tuple(
        ComparedJob(letter, tuple(group), tuple(seeds[run.run_id] for run in group), configs[group[0].run_id])
        for letter, group in zip(string.ascii_uppercase, members.values(), strict=False)
    )


def what_predicts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without the keys that only say how predictions are judged, or whether the test part is."""
    kept = {key: value for key, value in config.items() if key not in {"evaluation", "test"}}
    evaluation = config.get("evaluation", {})
    return {**kept, "evaluation": {key: evaluation[key] for key in PREDICTING if key in evaluation}}


def taken_apart(job: ComparedJob) -> tuple[ComparedJob, ...]:
    """The runs of a job, each as a job of its own with its own seed."""
    return tuple(
        ComparedJob(letter, (run,), (seed,), {**job.config, "seed": seed})
        for letter, run, seed in zip(string.ascii_uppercase, job.runs, job.seeds, strict=False)
    )


def _made_from(run: Run) -> tuple[str, Mapping[str, Any], tuple[object, ...]]:
    """The seed of a run, its config, and what the runs of its job have in common."""
    path = run.fetch(artifacts.JOB)
    if path is None:
        return run.params.get("seed", ""), run.params, (run.run_id,)
    job = read_job(path)
    without_seed = {key: value for key, value in what_predicts(job.config).items() if key != "seed"}
    data = [run.tags.get(tag) for tag in DATA_TAGS]
    return str(job.config["seed"]), job.config, (job_hash(without_seed, job.files), *data)


def config_differences(jobs: Sequence[ComparedJob]) -> dict[str, dict[str, str | None]]:
    """By flat key, the value in each job by its letter, None where it has no such key; only keys that differ.

    Keys that cannot change predictions (`freeze.NOT_HASHED`, and what `what_predicts` drops) are left out. The tags
    that name data, split and code stand at the end.
    """
    values = {job.letter: _flat(job) for job in jobs}
    keys = dict.fromkeys(key for flat in values.values() for key in flat)
    rows = {key: {letter: flat.get(key) for letter, flat in values.items()} for key in keys}
    return {key: row for key, row in sorted(rows.items(), key=_tags_last) if len(set(row.values())) > 1}


def _flat(job: ComparedJob) -> dict[str, str]:
    flat = {key: value for key, value in flat_params(what_predicts(job.config)).items() if not _is_left_out(key)}
    flat["seed"] = ", ".join(sorted(job.seeds))
    tags = {tag: sorted({run.tags.get(tag, "unknown") for run in job.runs}) for tag in (*DATA_TAGS, *CODE_TAGS)}
    return flat | {f"tag {tag}": ", ".join(found) for tag, found in tags.items()}


def _is_left_out(key: str) -> bool:
    return any(key == left_out or key.startswith(f"{left_out}.") for left_out in NOT_HASHED)


def _tags_last(row: tuple[str, Mapping[str, str | None]]) -> tuple[bool, str]:
    return row[0].startswith("tag "), row[0]

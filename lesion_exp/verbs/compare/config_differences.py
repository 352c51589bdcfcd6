"""What differs in the making of jobs: keys of their configs, their data, their code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lesion_exp.config.freeze import NOT_HASHED
from lesion_exp.tracking.params import flat_params
from lesion_exp.verbs.compare.jobs import CODE_TAGS, DATA_TAGS, ComparedJob, what_predicts


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

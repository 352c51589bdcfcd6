"""How to run the same again, and the fingerprints that say whether it is the same."""

from __future__ import annotations

import shlex
from typing import Final

from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import JOB, RunSummary
from lesion_exp.trained_runs.wording import counted, listed
from lesion_exp.verbs.report.blocks import Block, Cell, Code, Note, Pairs, Section, Text, not_stored

_HASHES: Final = {
    "job": "job_hash",
    "data set": "dataset_fingerprint",
    "split": "split_hash",
    "weights of the best epoch": "weights_hash",
}
_CHECKPOINT: Final = artifacts.checkpoint()
PLACES: Final = ("dataset.root", "paths", "tracking.uri")
"""Keys whose values say where things lie on a machine."""


def reproduce(facts: RunSummary) -> Section:
    """The section on reproduction."""
    run_id = facts.run.run_id
    if facts.members:
        command = f"lesion-exp evaluate 'run=[{','.join(member[:8] for member in facts.members)}]' ensemble="
        joined = Code("Joins the same runs again", command + facts.run.tags.get("ensemble", "mean"))
        return Section("reproduce", "How to reproduce", [joined, _fingerprints(facts), *_kept(facts)])
    blocks: list[Block] = [
        Text("Trains the same job again, in a store that holds this run, and names whatever is not equal:"),
        Code("With its store", f"lesion-exp reproduce run={run_id[:8]} dataset.root=DIR"),
        Code("From its job file alone, an artifact of the run", f"lesion-exp reproduce job={JOB} dataset.root=DIR"),
    ]
    made = made_by(facts)
    blocks += [Code("It was made by", made)] if made else [not_stored(JOB)]
    return Section("reproduce", "How to reproduce", [*blocks, _fingerprints(facts), *_kept(facts)])


def made_by(facts: RunSummary) -> str | None:
    """The command that made the run, without places on its machine; None where it is not stored."""
    overrides = facts.job.get("overrides")
    if not isinstance(overrides, list):
        return None
    return " ".join(["lesion-exp train", *(shlex.quote(without_place(str(text))) for text in overrides)])


def without_place(override: str) -> str:
    """`override`, with DIR instead of a place on somebody's machine."""
    key = override.lstrip("+").partition("=")[0]
    return f"{key}=DIR" if key.startswith(PLACES) else override


def _fingerprints(facts: RunSummary) -> Pairs:
    tags = facts.run.tags
    pairs: dict[str, Cell] = {words: tags[tag] for words, tag in _HASHES.items() if tag in tags}
    if "git_commit" in tags:
        pairs["commit"] = f"{tags['git_commit']}{' and changes' if tags.get('git_dirty') == 'true' else ''}"
    pairs["run"] = facts.run.run_id
    seeds = [
        f"{words} {facts.key(key)}"
        for words, key in (("run", "seed"), ("split", "split.seed"))
        if facts.key(key) is not None
    ]
    return Pairs(pairs | ({"seeds": listed(seeds)} if seeds else {}))


def _kept(facts: RunSummary) -> list[Block]:
    names = sorted(facts.kept.names - {"report.html"})
    broken = [Note(f"{name} cannot be read: {why}", "missing") for name, why in sorted(facts.kept.broken.items())]
    weights = "" if _CHECKPOINT in facts.kept.names else " The weights are not among them."
    intro = Text(f"The run keeps {counted(len(names), 'file')}.{weights}")
    return [intro, *broken, Code("All files of the run", "\n".join(names), columns=True)]

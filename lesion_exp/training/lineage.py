"""What the runs that take part in a training have seen: its teacher, and the runs that gave it pseudo-labels.

What such a run was trained on reaches the new network through its probabilities. So its training images must not be in
the validation or test part of the new run. A run whose training is not known here is named, not assumed to be clean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from lesion_exp.config.named_run import TEACHER_WEIGHTS
from lesion_exp.config.project import Project
from lesion_exp.dataset.id_origin import with_id_origin
from lesion_exp.dataset.pseudo_labels import UNKNOWN_RUN, pseudo_rows
from lesion_exp.errors import ConfigError, LeakageError
from lesion_exp.split.audit import MOST_CASES, Crossing
from lesion_exp.split.seen_before import IMAGES, LABELS, PROBED, find_seen, seen_again
from lesion_exp.taxonomy import PSEUDO_RUN
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import SEEN_TAG, Run, read_stored_table
from lesion_exp.training.data import SplitData
from lesion_exp.training.seen_before import TRANSDUCTIVE, UNKNOWN_TEXT, rows_of, seen_by, warn_of_same_ids
from lesion_exp.training.tracked import job_of

TEACHER: Final = "seen_by_teacher"
LABELLER: Final = "seen_by_labeller"
CROSSINGS: Final[Mapping[str, str]] = {
    TEACHER: "images of validation or test that the teacher was trained on",
    LABELLER: "images of validation or test that the run of the pseudo-labels was trained on",
}
"""Kind of crossing of the audit -> its description."""


def with_lineage(config: Mapping[str, Any], split: SplitData) -> SplitData:
    """`split`, whose audit also says whether the teacher or a run of pseudo-labels was trained on its evaluated parts.

    Raises:
        LeakageError: one of them was, and `split.allow_leakage` is not true.
    """
    sources = dict(_sources(config, split.table))
    if not sources:
        return split
    store = Project.from_config(config).store
    table = with_id_origin(split.table, config["dataset"])
    crossings, warnings = dict(split.audit.crossings), list(split.audit.warnings)
    for kind, run_ids in sources.items():
        runs, unknown = lineage(store, run_ids)
        warnings += [f"it is not known here on which images run {name} was trained" for name in unknown]
        crossings[kind] = _crossing(runs, table)
        chosen_on = _crossing(runs, table, seen="val", parts=("test",))
        if chosen_on.count:
            warnings.append(
                f"{chosen_on.count:,} test images are in the validation part of a run from which this run learns "
                f"({', '.join(chosen_on.cases[:3])}): its best epoch was chosen on them"
            )
        warnings += _seen_without_labels(runs, table, config["dataset"])
    leaks = {kind: crossings[kind] for kind in sources if crossings[kind].count}
    if leaks and not config["split"]["allow_leakage"]:
        lines = [f"{found.count:,} {CROSSINGS[kind]} ({_some(found)})" for kind, found in leaks.items()]
        raise LeakageError(
            f"expected a teacher, or a run of pseudo-labels, that was not trained on images which this run evaluates, "
            f"but there are {'; and '.join(lines)}; train that run on the same split (the same data set, split and "
            f"split.seed), or set split.allow_leakage=true to train all the same (every result is then tagged leaky)"
        )
    audit = replace(split.audit, crossings=crossings, warnings=warnings)
    return replace(split, audit=audit, leaky=split.leaky or bool(leaks))


def _seen_without_labels(runs: Sequence[Run], table: pd.DataFrame, dataset: Mapping[str, Any]) -> list[str]:
    """Warnings about images of validation and test on which the `runs`, or those before them, were pretrained.

    It is also logged if the runs have seen ids that may mean the lesions and patients of these parts.
    """
    warnings = []
    if runs:
        seen = pd.concat([seen_by(run) for run in runs], ignore_index=True)
        warn_of_same_ids(table[table["split"].isin(["val", "test"])], seen, dataset)
        if words := find_seen(table, seen[seen["use"].isin([IMAGES, PROBED])]).in_words():
            warnings.append(f"the runs from which this run learns have seen {words}; {TRANSDUCTIVE}")
    if any(UNKNOWN_TEXT in run.tags.get(SEEN_TAG, "") for run in runs):
        warnings.append(f"the runs from which this run learns have seen {UNKNOWN_TEXT}")
    return warnings


def _some(found: Crossing) -> str:
    shown = ", ".join(found.cases[:3])
    return f"{shown} and others" if found.count > 3 else shown


def _sources(config: Mapping[str, Any], table: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Kinds of crossings and the ids of the runs that they concern."""
    if config["loss"].get(TEACHER_WEIGHTS):
        yield TEACHER, [str(config["loss"]["teacher"])]
    if pseudo_rows(table).any():
        yield LABELLER, sorted(set(table[PSEUDO_RUN].dropna().astype(str)))


def lineage(store: Store, run_ids: Sequence[str]) -> tuple[list[Run], list[str]]:
    """Returns the runs by whose training `run_ids` learned, and the ids of those that the store does not have.

    These are the runs themselves, the members of ensembles, their teachers, the runs of their pseudo-labels, and those
    on whose labels their initial weights were trained.
    """
    found: dict[str, Run] = {}
    unknown: list[str] = []
    waiting = list(run_ids)
    while waiting:
        name = waiting.pop(0)
        if name in found or name in unknown:
            continue
        run = None if name == UNKNOWN_RUN else _found(store, name)
        if run is None:
            unknown.append(name)
            continue
        if run.run_id in found:
            continue
        found[run.run_id] = run
        waiting += run.members
        waiting += _behind(run)
        manifest = _manifest(run)
        if manifest is None:
            continue
        waiting += sorted(set(manifest[PSEUDO_RUN].dropna().astype(str))) if PSEUDO_RUN in manifest else []
        loss = job_of(run).config["loss"]
        waiting += [str(loss["teacher"])] if loss.get(TEACHER_WEIGHTS) else []
    trained = [run for run in found.values() if run.fetch(artifacts.MANIFEST) is not None]
    unknown += [name for name, run in found.items() if run not in trained and not run.members]
    return trained, unknown


def _found(store: Store, name: str) -> Run | None:
    try:
        return find_run(store, name)
    except ConfigError:
        return None


def _behind(run: Run) -> list[str]:
    """The ids of the runs on whose labels the initial weights of `run` were trained."""
    seen = read_stored_table(run, artifacts.SEEN_BEFORE, ["run_id", "use"])
    if seen is None:
        return []
    return sorted(set(seen.loc[seen["use"] == LABELS, "run_id"].astype(str)) - {run.run_id})


def _manifest(run: Run) -> pd.DataFrame | None:
    return read_stored_table(run, artifacts.MANIFEST)


def _crossing(
    runs: Sequence[Run], table: pd.DataFrame, *, seen: str = "train", parts: Sequence[str] = ("val", "test")
) -> Crossing:
    """The images of `parts` of `table` that show an image, a lesion or a patient of the part `seen` of the `runs`."""
    rows = table[table["split"].isin(list(parts))]
    again = pd.Series(False, index=rows.index)
    for run in runs:
        images, related = seen_again(rows, rows_of(run, (seen,)))
        again |= images | related
    cases = sorted(set(rows.loc[again, "image_id"].astype(str)))
    return Crossing(len(cases), cases[:MOST_CASES])


def seen_by_lineage(config: Mapping[str, Any], split: SplitData) -> pd.DataFrame | None:
    """Everything that the teacher and the runs of pseudo-labels have seen (`split.seen_before.seen_rows`), for the runs
    that start from the weights of this one; None if there are none.
    """
    named = [name for names in dict(_sources(config, split.table)).values() for name in names]
    runs, _ = lineage(Project.from_config(config).store, named) if named else ([], [])
    return pd.concat([seen_by(run) for run in runs], ignore_index=True) if runs else None

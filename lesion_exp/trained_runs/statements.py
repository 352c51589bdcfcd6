"""Sentences about a run for its page and its model card: result, baseline, warnings, split, largest gap."""

from __future__ import annotations

from typing import Final

import pandas as pd

from lesion_exp.choices import TTA
from lesion_exp.evaluation.calibrator import calibration_effect
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.lesion_counts import knows_lesions, warnings_of_lesions
from lesion_exp.evaluation.predictions import check, classes_of, known_rows, majority_baseline
from lesion_exp.evaluation.registry import WATCHED, short_of, shown_in
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import READS_TAG
from lesion_exp.tracking.stored_run import SEEN_TAG, Run, read_stored_table, unit_of
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.trained_run import own_tta, stored_calibrators
from lesion_exp.trained_runs.wording import as_value, counted, listed, number, percent, with_interval

OVERALL: Final = shown_in("report")
BY_CLASS: Final = ("recall", "specificity", "precision", "f1", "auroc", "average_precision")
PATCH: Final = artifacts.environment("changes.patch")


def headline(facts: RunSummary) -> str | None:
    """Returns the headline results in one sentence; None without predictions."""
    table, value = facts.predictions, facts.values.get(WATCHED)
    if table is None or value is None:
        return None
    lesions = f" of {counted(lesion_of(table)[1], 'lesion')}" if knows_lesions(table) else ""
    size = f"On {counted(len(table), 'image')}{lesions}"
    seen = {
        (True, "test"): "some of which, or their copies, were trained on as well",
        (True, "val"): "some of which, or their copies, were trained on as well",
        (False, "test"): "never seen in training",
        (False, "val"): "of the validation part, on which the best epoch was chosen",
    }[facts.is_leaky, facts.part or "val"]
    if facts.is_imported:
        seen = "of which it is not known whether the network was trained on them"
    elif SEEN_TAG in facts.run.tags and not facts.is_leaky:
        seen = seen.replace("never seen in training", "not seen in this training, but in part before it")
    interval = "" if value.low is None else f" (95% interval {number(value.low)} to {number(value.high)})"
    further = [
        f"{short_of(name)} {with_interval(facts.values[name])}"
        for name in shown_in("headline")
        if name in facts.values and name != WATCHED
    ]
    rest = f"; {listed(further)}" if further else ""
    return f"{size} {seen}, {short_of(WATCHED)} was {number(value.value)}{interval}{rest}."


def baseline_sentence(facts: RunSummary) -> str | None:
    """Returns the results of always predicting the most frequent class, in a sentence; None without predictions."""
    if facts.predictions is None:
        return None
    return f"For comparison, {majority_baseline(facts.predictions)} on these images."


def warnings_of(facts: RunSummary) -> list[str]:
    """Warnings: leakage, an unfinished run, few or unknown lesions, repeated reads of the test part, changed code."""
    run = facts.run
    found = []
    if facts.is_leaky:
        shared = facts.audit.get("test_rows_with_lesion_in_train", {}).get("all")
        how_many = "" if not shared else f": {percent(shared)} of the test images show a lesion that was trained on"
        found.append(f"LEAKY: parts of the training data reappear in validation or test{how_many}. No result of "
                     f"this run says how well the network performs on new lesions.")  # fmt: skip
    if SEEN_TAG in run.tags and not facts.is_leaky:
        found.append(
            f"The initial weights have seen {run.tags[SEEN_TAG]}. Results on these images are transductive: they may "
            f"be better than on images that nobody has seen."
        )
    if run.status != "FINISHED":
        error = f": {run.tags['error']}" if run.tags.get("error") else ""
        found.append(
            f"This run has not finished ({run.status}){error}. Results that are computed at its end are missing."
        )
    if facts.predictions is not None:
        unit = str(facts.evaluation_file("metrics").get("unit") or facts.key("evaluation.bootstrap_unit"))
        found += [f"{text[:1].upper()}{text[1:]}." for text in warnings_of_lesions(facts.predictions, unit)]
    reads = run.tags.get(READS_TAG, "")
    if reads.isdecimal() and int(reads) > 1:
        found.append(f"Runs of the store had read this test part {reads} times, this run included. The more often a "
                     f"test part is read to choose between runs, the more optimistic its results are.")  # fmt: skip
    if run.tags.get("git_dirty") == "true":
        kept = "are stored with the run" if PATCH in facts.kept.names else "are not stored"
        found.append(f"The code had uncommitted changes; those of tracked files {kept}.")
    return found


def evaluation_notes(facts: RunSummary) -> str:
    """How the intervals were computed, and how often the test part had been read."""
    how = facts.evaluation_file("metrics").get("interval") or facts.key("evaluation.bootstrap_draws")
    basis = how if isinstance(how, str) else f"95%, {how or 'an unknown number of'} bootstrap draws of lesions"
    words = f"Intervals: {basis}; values without an interval have none in the run."
    reads = facts.run.tags.get(READS_TAG)
    if facts.part == "test":
        times = "once" if reads == "1" else f"{reads} times"
        words += f" Runs of its store had read this test part {times}, this run included." if reads else (
            " How often this test part had been read before is not stored.")  # fmt: skip
    else:
        words += " The test part was not read by this run."
    return words


def split_in_words(facts: RunSummary) -> str | None:
    """Returns the kind of split with its ratios and seed; None if the config does not name it."""
    kind = facts.option("split")
    if kind is None:
        return None
    ratios = facts.key("split.ratios")
    shares = f", {listed([f'{part} {share:g}' for part, share in ratios.items()])}" if isinstance(ratios, dict) else ""
    fold = facts.key("split.fold")
    folds = f", fold {fold} of {facts.key('split.num_folds')}" if fold is not None else ""
    seed = facts.key("split.seed")
    seeded = f", seed {seed}" if seed is not None else ""
    return f"Split: {kind.replace('_', ' ')}{shares}{folds}{seeded}."


def largest_gap(facts: RunSummary) -> str | None:
    """Returns the largest gap of balanced accuracy between subgroups in words; None if none is stored."""
    gaps = [
        gap
        for gap in facts.evaluation_file("subgroups").get("largest_gaps", [])
        if gap["metric"] == "balanced_accuracy"
    ]
    gaps = [gap for gap in gaps if as_value(gap)]
    if not gaps:
        return None
    gap = max(gaps, key=lambda found: found["value"])
    return (
        f"largest gap of balanced accuracy: {gap['attribute'].replace('_', ' ')}, {gap['highest']} against "
        f"{gap['lowest']}, {with_interval(as_value(gap))}"
    )


def tested_predictions(run: Run) -> pd.DataFrame | None:
    """Returns the uncalibrated predictions of `run` on its test part; None if there are none, or none with labels.

    Raises:
        DataError: the file is damaged, or is no predictions table.
    """
    table = read_stored_table(run, artifacts.predictions("test"))
    if table is None:
        return None
    check(table)
    known = known_rows(table).reset_index(drop=True)
    return None if known.empty else known


def calibration_warning(run: Run, method: str) -> str | None:
    """Returns a warning if the calibration `method` makes the probabilities of the test part worse, else None."""
    table = None if method == "none" else tested_predictions(run)
    if table is None:
        return None
    classes = classes_of(table)
    fitting = {name: found for name, found in stored_calibrators(run).items() if found.classes == classes}
    effect = calibration_effect(table, method, fitting, unit_of(run, "test"))
    return None if effect is None else effect.warning


def calibration_warnings(run: Run, calibration: str, tta: str) -> list[str]:
    """Returns the warnings of a `calibration` of predictions with the test-time augmentation `tta`.

    They say that it makes the probabilities of the test part worse, and that it was fitted on predictions with another
    augmentation.
    """
    worse = calibration_warning(run, calibration)
    found = [] if worse is None else [worse]
    own = own_tta(run)
    if calibration == "none" or tta == own:
        return found
    remedy = f"tta={own} has" if own in TTA else "without tta=, each network has"
    return [
        *found,
        f"calibration={calibration} was fitted on predictions with tta={own}, and is applied to predictions "
        f"with tta={tta}; {remedy} the views on which it was fitted",
    ]

"""The sections with results: overall, by class, by the rules of the challenges, on other data, and confusions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

from lesion_exp.evaluation.classification_report import confusion_counts
from lesion_exp.evaluation.isic import note_on_unk, titles
from lesion_exp.evaluation.lesion_counts import TOO_FEW, lesion_counts
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_classes, malignant_view, rule_in_words
from lesion_exp.evaluation.predictions import classes_of, has_labels_only, unknown_in_words
from lesion_exp.evaluation.ranking import PAUC_2024
from lesion_exp.evaluation.registry import METRICS, added_among, is_share, short_of, shown_in, words_of
from lesion_exp.evaluation.unknown import AUROC, FPR
from lesion_exp.evaluation.unknown import SECTION as UNKNOWN
from lesion_exp.split import PARTS
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.statements import BY_CLASS, OVERALL, evaluation_notes, headline
from lesion_exp.trained_runs.wording import Value, as_value, counted, interval, listed, number, percent, stacked, within
from lesion_exp.verbs.report.blocks import Block, Cell, Matrix, Section, Table, Text, not_stored
from lesion_exp.verbs.report.charts import interval_bar

_OWN: Final = ("val", "test")
SHORTCUTS: Final = "shortcuts/report.json"


def results(facts: RunSummary) -> Section:
    """Returns the section on results."""
    answer = headline(facts)
    if answer is None:
        return Section("results", "Results", [not_stored("predictions of the validation or the test part")])
    blocks: list[Block] = [Text(answer, lead=True), Text(evaluation_notes(facts))]
    blocks += [_overall(facts), *_definitions(facts), *_by_class(facts), *_unknown(facts), *_isic(facts)]
    blocks += [*_elsewhere(facts), *_shortcuts(facts)]
    return Section("results", "Results", blocks)


def _overall(facts: RunSummary) -> Table:
    names = [name for name in OVERALL if name in facts.values] + added_among(facts.values, "")
    rows = [_row(words_of(name), facts.values[name], with_bar=is_share(name)) for name in names]
    return Table("All classes together", ["metric", ">value", ">95% interval", "0 to 1"], rows)


def _definitions(facts: RunSummary) -> list[Block]:
    """A text with the functions of scikit-learn that give the same numbers as metrics of all classes."""
    calls = {name: METRICS[name].same_as for name in OVERALL if name in facts.values and METRICS[name].same_as}
    if not calls:
        return []
    named = [Markup("{}, <code>{}</code>").format(short_of(name), call) for name, call in calls.items()]
    return [Text(Markup("scikit-learn gives the same number for {}.").format(Markup("; ").join(named)))]


def _row(name: str, value: Value, *, with_bar: bool = True) -> list[Cell]:
    bar: Cell = interval_bar(*value) if with_bar else ""
    return [name, number(value.value), interval(value), bar]


def _by_class(facts: RunSummary) -> list[Block]:
    assert facts.predictions is not None
    counts = facts.predictions["label"].value_counts()
    view = [MALIGNANT] if f"recall/{MALIGNANT}" in facts.values and MALIGNANT not in facts.classes else []
    families = [family for family in BY_CLASS if any(f"{family}/{name}" in facts.values for name in facts.classes)]
    malignant = malignant_view(facts.predictions) if view else None
    if malignant is not None:
        counts = pd.concat([counts, malignant["label"].value_counts()])
    rests = lesion_counts(facts.predictions)
    rows: list[list[Cell]] = []
    few = False
    for name in [*facts.classes, *view]:
        images = f"{int(counts.get(name, 0)):,}"
        title = "malignant or not" if name in view else name
        notes = {family: rests.too_few(f"{family}/{name}") for family in families}
        few |= any(notes[family] for family in families if f"{family}/{name}" in facts.values)
        values = (stacked(facts.values.get(f"{family}/{name}"), notes[family]) for family in families)
        rows.append([title, images, *values])
    columns = ["class", ">images", *(f">{short_of(family)}" for family in families)]
    table = Table("Each class against the rest, with 95% intervals", columns, rows)
    words = (
        [f'Numbers marked "{TOO_FEW}" rest on fewer than {LEAST_LESIONS} lesions and allow no conclusions.']
        if few
        else []
    )
    words += [] if malignant is None else [_malignant_in_words(facts.predictions, malignant)]
    return [table, *map(Text, words)]


def _malignant_in_words(table: pd.DataFrame, view: pd.DataFrame) -> str:
    """The rule of "malignant or not", and the reason why the confusion matrix gives another sensitivity."""
    classes = classes_of(table)
    kinds = malignant_classes(classes) or []
    names = [name for name, is_malignant in zip(classes, kinds, strict=True) if is_malignant]
    positive = (view["label"] == MALIGNANT).to_numpy()
    found = int((positive & (view["prediction"] == MALIGNANT).to_numpy()).sum())
    if has_labels_only(table):
        return (
            f"Malignant or not: an image is predicted malignant where the predicted class is a malignant one "
            f"({listed(names)}); {found:,} of the {counted(positive.sum(), 'malignant image')} are detected."
        )
    leading = int((positive & table["prediction"].isin(names).to_numpy()).sum())
    return (
        f"Malignant or not: {within(rule_in_words(classes))} By this rule {found:,} of the "
        f"{counted(positive.sum(), 'malignant image')} are detected; the confusion matrix only uses the class with "
        f"the highest probability, which is a malignant one for {leading:,} of them. The two can differ for images "
        f"without a probability above 0.5."
    )


def _unknown(facts: RunSummary) -> list[Block]:
    """The detection of images of unknown classes, if the part has some."""
    images = facts.evaluation_file("metrics").get("unknown_images")
    counts = images.get("classes") if isinstance(images, dict) else None
    first = f"{UNKNOWN}/{AUROC}/"
    scores = [name.removeprefix(first) for name in facts.values if name.startswith(first)]
    if not isinstance(counts, dict) or not scores:
        return []
    values = [
        [as_value(facts.evaluation_file("metrics").get(f"{UNKNOWN}/{family}/{score}")) for family in (AUROC, FPR)]
        for score in scores
    ]
    rows: list[list[Cell]] = [
        [score.replace("_", " "), *map(stacked, found)] for score, found in zip(scores, values, strict=True)
    ]
    title = "Detection of images of unknown classes by scores, with 95% intervals"
    words = f"{unknown_in_words({str(label): int(count) for label, count in counts.items()})}."
    return [Text(words), Table(title, ["score", ">AUROC", ">FPR at 95% TPR"], rows)]


def _isic(facts: RunSummary) -> list[Block]:
    scores = facts.evaluation_file("isic")
    rests = None if facts.predictions is None else lesion_counts(facts.predictions)
    rows: list[list[Cell]] = []
    for name, words in titles(facts.classes).items():
        value = as_value(scores.get(name.removeprefix("isic/")))
        if value is not None:
            few = rests.too_few(name) if rests is not None and rests.is_of_class(name) else ""
            rows.append([words, number(value.value), f"{interval(value)}{f', {few}' if few else ''}"])
    bound = f"The score of ISIC 2024 is at most {METRICS[PAUC_2024].highest}."
    notes = [bound if f"{PAUC_2024}/{MALIGNANT}" in scores else "", note_on_unk(facts.classes)]
    note: list[Block] = [Text(words) for words in notes if words]
    table = Table("Scores as the challenges define them", ["score", ">value", ">95% interval"], rows)
    return [table, *note] if rows else []


def elsewhere(facts: RunSummary) -> dict[str, Mapping[str, Any]]:
    """Returns the metrics of every further evaluation of the run, by its name: other data sets, other augmentation."""
    ending = "/metrics.json"
    names = [path.removeprefix("evaluation/").removesuffix(ending) for path in facts.kept.below("evaluation", ending)]
    return {name: facts.kept.mapping(artifacts.evaluation(f"{name}{ending}")) for name in names if name not in _OWN}


def _elsewhere(facts: RunSummary) -> list[Block]:
    rows: list[list[Cell]] = []
    for name, found in elsewhere(facts).items():
        values = [stacked(as_value(found.get(metric))) for metric in shown_in("headline")]
        rows.append([name, f"{found.get('images', 0):,}", *values])
    columns = ["evaluation", ">images", *(f">{short_of(metric)}" for metric in shown_in("headline"))]
    return [Table("Further evaluations: other data sets, other test-time augmentation", columns, rows)] if rows else []


def shortcut_verdicts(facts: RunSummary) -> list[tuple[str, str, str]]:
    """Returns check, level and words of each verdict of lesion-exp shortcuts on the evaluated part; empty without
    any."""
    found = facts.kept.mapping(SHORTCUTS if facts.part == "test" else SHORTCUTS.replace("/", f"/{facts.part}/"))
    return [(str(v["check"]), str(v["level"]), str(v["words"])) for v in found.get("verdicts", [])]


def _shortcuts(facts: RunSummary) -> list[Block]:
    rows = [[check.replace("_", " "), level, words] for check, level, words in shortcut_verdicts(facts)]
    return [Table("Checks for shortcuts", ["check", "level", "result"], rows, wraps=True)] if rows else []


def share_bar(value: Value | None, reference: float | None = None) -> Markup:
    """Returns an interval bar; empty without a value."""
    return Markup("") if value is None else interval_bar(*value, reference)


def confusion(facts: RunSummary) -> Section:
    """Returns the section with the confusion matrix."""
    table, title = facts.predictions, "Confusion matrix"
    if table is None:
        return Section("confusion", title, [not_stored("predictions of the validation or the test part")])
    counts = confusion_counts(table)
    part = f"{PARTS[facts.part or 'val'].capitalize()} part, {counted(len(table), 'image')}"
    caption = f"{part}: true class by row, predicted class by column"
    matrix = Matrix(caption, facts.classes, counts.tolist())
    blocks = [Text(words) for words in [most_frequent_confusions(facts)] if words]
    return Section("confusion", title, [*blocks, matrix])


def most_frequent_confusions(facts: RunSummary, most: int = 3) -> str | None:
    """Returns the number of wrong predictions and the most frequent confusions in words; None if there are none."""
    if facts.predictions is None:
        return None
    counts = confusion_counts(facts.predictions)
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.sum():
        return None
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    words = [
        f"{facts.classes[row]} predicted as {facts.classes[column]} ({wrong[row, column]:,})" for row, column in pairs
    ]
    share = percent(wrong.sum() / counts.sum())
    return f"{counted(wrong.sum(), 'prediction')} ({share}) wrong, most often {', '.join(words)}."

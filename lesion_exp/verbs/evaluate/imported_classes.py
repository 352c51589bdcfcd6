"""Brings the probabilities of a file to the true classes, and to those of the run whose images they predict."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from lesion_exp.dataset.path_patterns import as_override
from lesion_exp.evaluation.class_mapping import added_in_words, added_up, map_predicted_classes
from lesion_exp.evaluation.predictions import FloatArray, IntArray
from lesion_exp.verbs.evaluate.given_predictions import GivenPredictions
from lesion_exp.verbs.evaluate.import_request import MAPPABLE, ImportRequest
from lesion_exp.verbs.evaluate.true_classes import TrueClasses

log = logging.getLogger(__name__)


def imported_classes(
    given: GivenPredictions, truth: TrueClasses, places: IntArray, request: ImportRequest
) -> tuple[tuple[str, ...], FloatArray, list[str]]:
    """Returns the classes, float (N, C), the probability of each, and notes for the reader.

    Probabilities of classes that are finer than the true ones are added up. With the images of a run (`like=`), the
    classes are those of the run in its spelling if the file gives each other one the probability 0.

    Args:
        given: the predictions of the file, with probabilities.
        truth: the true classes.
        places: the N rows of the file that are evaluated.
        request: which column is what.
    """
    targets = map_predicted_classes(given.classes, {*truth.table["label"].astype(str), *truth.classes}, truth.classes)
    classes, probs = added_up(given.probs[places], given.classes, targets)
    notes = [note] if (note := added_in_words(targets)) else []
    if not truth.classes:
        return classes, probs, notes
    others = [place for place, name in enumerate(classes) if name not in truth.classes]
    named = ", ".join(classes[place] for place in others)
    if probs[:, others].any():
        note = f"{truth.source} does not know {named}, so compare and ensembles refuse both together"
        return classes, probs, [*notes, note + _remedy(given, targets, truth, request)]
    if others:
        notes.append(f"{named} left out: not among the classes of {truth.source}, and 0 for all images")
    if lacking := [name for name in truth.classes if name not in classes]:
        log.warning("the file has no column of %s; their probability is 0", ", ".join(lacking))
    columns = [classes.index(name) if name in classes else -1 for name in truth.classes]
    padded = np.concatenate([probs, np.zeros((len(probs), 1))], axis=1)
    return truth.classes, padded[:, columns], notes


def _remedy(given: GivenPredictions, targets: Mapping[str, str], truth: TrueClasses, request: ImportRequest) -> str:
    """The end of a note: the options that read the classes of the run of `like=` alone; empty if the file has fewer
    than two of them."""
    columns = {
        name: given.columns[name]
        for name, target in targets.items()
        if target in truth.classes and name in given.columns
    }
    if len(columns) < 2:
        return ""
    kept = {name: column for name, column in request.columns.items() if name in MAPPABLE}
    options = as_override("columns", {**kept, **columns}) + ("" if request.values == "logits" else " rescale=true")
    return f"; {options} reads the classes of that run alone"

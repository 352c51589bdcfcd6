"""The model card: what a person must know about a network before using its predictions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.choices import DRAWN
from lesion_exp.errors import DataError
from lesion_exp.evaluation.answer_rates import Rate
from lesion_exp.evaluation.conformal import ConformalSets
from lesion_exp.evaluation.lesion_counts import TOO_FEW, LesionCounts, lesion_counts
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_classes, rule_in_words
from lesion_exp.evaluation.registry import words_of
from lesion_exp.split import PARTS
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.run_summary import RunArtifacts, RunSummary
from lesion_exp.trained_runs.statements import (
    BY_CLASS,
    OVERALL,
    baseline_sentence,
    evaluation_notes,
    headline,
    largest_gap,
    split_in_words,
    warnings_of,
)
from lesion_exp.trained_runs.wording import Value, as_value, moment, percent
from lesion_exp.verbs.serve.answers import RESEARCH_ONLY
from lesion_exp.verbs.serve.served_model import NAMES, ServedModel, band_in_words, malignant_sentence
from lesion_exp.version import __version__

Plain = dict[str, Any]
_OF_MALIGNANT: Final = ("recall", "specificity", "auroc")
_OF_SETS: Final = (
    "Its conformal sets, and its probabilities if they are calibrated, are right on average over images like those of "
    "its validation part, with the same mix of diagnoses. In a practice with another mix they are not."
)
OTHER_WEIGHTS: Final = (
    "These weights were not evaluated, since only the best weights of a finished run are evaluated: how good they are "
    "was not measured, and they have no conformal sets."
)


def model_card(run: Run, model: ServedModel) -> Plain:
    """Returns the model card of a run's network as plain values for JSON.

    What the run did not store is None or empty.
    """
    facts = RunSummary(run, RunArtifacts(run))
    return {
        "run_id": run.run_id,
        "name": run.name or run.run_id,
        "trained": moment(run.started),
        "job_hash": run.tags.get("job_hash"),
        "software": f"lesion_exp {__version__}",
        "notice": RESEARCH_ONLY,
        "network": {
            "backbone": facts.option("backbone"),
            "image_size": facts.key("image_size"),
            "frame": model.predictor.restored.pipeline.fit,
            "preprocessing": model.predictor.restored.card.get("preprocessing"),
            "start": facts.key("backbone.weights") or "none",
            "teacher": facts.key("loss.teacher"),
            "precision": model.precision,
            "parameters": sum(values.numel() for values in model.predictor.classifier.parameters()),
        },
        "classes": _classes(model.classes),
        "metadata": _metadata(model),
        "data": _data(facts),
        "results": _results(facts) if model.is_evaluated else None,
        "probabilities": _probabilities(facts, model),
        "answers": _answers(facts, model),
        "warnings": [
            *warnings_of(facts),
            *([] if model.warning is None else [model.warning]),
        ],
        "limits": _limits(facts, model),
    }


def _classes(classes: tuple[str, ...]) -> list[Plain]:
    return [{"code": code, "name": taxonomy.full_name(code), "malignant": _is_malignant(code)} for code in classes]


def _is_malignant(code: str) -> bool | None:
    """Whether the class is malignant; None if it may be either."""
    try:
        return taxonomy.is_malignant(code)
    except DataError:
        return None


def _metadata(model: ServedModel) -> Plain | None:
    """What the network reads beside the image; None for a network that sees only the image."""
    if model.encoder is None:
        return None
    return {"age": "years", "sex": list(model.encoder.sexes), "site": list(model.encoder.sites)}


def _data(facts: RunSummary) -> Plain:
    units = ["images", *(["lesions"] if facts.counts_lesions else []), "patients", "counts"]
    parts = {
        words: {unit: facts.parts[part].get(unit) for unit in units}
        for part, words in PARTS.items()
        if part in facts.parts
    }
    return {
        "name": facts.data_name,
        **{key: facts.identity.get(key) for key in ("citation", "licence", "where")},
        "parts": parts,
        "split": split_in_words(facts),
        "audit_passed": facts.audit.get("passed"),
        "audit_warnings": [str(text) for text in facts.audit.get("warnings", [])],
    }


def _results(facts: RunSummary) -> Plain | None:
    """The metrics of the test part, else of validation, with 95% intervals; None if none are stored."""
    table = facts.predictions
    if table is None:
        return None
    names = [*OVERALL, *(f"{family}/{MALIGNANT}" for family in _OF_MALIGNANT)]
    by_class = [f"{family}/{name}" for name in facts.classes for family in BY_CLASS]
    counts, rests = table["label"].value_counts(), lesion_counts(table)
    return {
        "part": PARTS[facts.part or "val"],
        "images": len(table),
        "lesions": rests.total if facts.counts_lesions else None,
        "headline": headline(facts),
        "floor": baseline_sentence(facts),
        "intervals": f"{evaluation_notes(facts)} {_rule(facts)}".rstrip(),
        "metrics": [_metric(name, facts.values[name], rests) for name in names if name in facts.values],
        "by_class": {
            name: {
                "images": int(counts.get(name, 0)),
                "lesions": rests.classes[name][0] if facts.counts_lesions else None,
                "metrics": [_metric(key, facts.values[key], rests) for key in by_class if key.endswith(f"/{name}")
                            and key in facts.values],
            }
            for name in facts.classes
        },
    }  # fmt: skip


def _rule(facts: RunSummary) -> str:
    """When an image counts as malignant in the metrics of malignancy; empty if there are none."""
    is_shown = any(f"{family}/{MALIGNANT}" in facts.values for family in _OF_MALIGNANT)
    return rule_in_words(facts.classes) if is_shown and malignant_classes(facts.classes) else ""


def _metric(key: str, value: Value, rests: LesionCounts | None = None) -> Plain:
    """A metric as plain values; `too_few` is a text if the metric is based on too few lesions, else None."""
    plain = {"key": key, "name": words_of(key), "value": value.value, "low": value.low, "high": value.high}
    return plain if rests is None else {**plain, "too_few": rests.too_few(key) or None}


def _answers(facts: RunSummary, model: ServedModel) -> Plain:
    """How often predictions were right on the test part, by their confidence and for malignant lesions."""
    rates = model.rates
    right = [None] * len(NAMES) if rates is None else rates.right
    return {
        "tested": rates is not None,
        "by_confidence": [
            {"level": name, "probability": band_in_words(name), "right": _rate(rate, facts)}
            for name, rate in zip(NAMES, right, strict=True)
        ],
        "malignant_sensitivity": None if rates is None else _rate(rates.malignant_sensitivity, facts),
        "caution": malignant_sentence(rates),
    }


def _rate(rate: Rate | None, facts: RunSummary) -> Plain | None:
    if rate is None:
        return None
    return asdict(rate) if facts.counts_lesions else {**asdict(rate), "lesions": None}


def _probabilities(facts: RunSummary, model: ServedModel) -> Plain:
    """How reliable the probabilities and the conformal sets are."""
    calibrator, calibration = model.calibrator, model.calibration
    before = facts.values.get("ece") if model.is_evaluated else None
    after = as_value(facts.evaluation_file("calibrated").get("ece"))
    fits = model.is_evaluated and facts.evaluation_file("calibrated").get("calibration") == calibration
    return {
        "calibration": calibration,
        "fitted_on": None if calibrator is None else f"{calibrator.images:,} images of the validation part",
        "error_before": None if before is None else _metric("ece", before),
        "error_after": _metric("ece", after) if after is not None and fits else None,
        "conformal": None if model.conformal is None else _sets(facts, model.conformal),
    }


def _sets(facts: RunSummary, sets: ConformalSets) -> Plain:
    """The conformal sets, and their coverage and size on the test part."""
    stored = facts.evaluation_file("conformal")
    coverage, size = as_value(stored.get(f"{sets.method}/coverage")), as_value(stored.get(f"{sets.method}/set_size"))
    unit = "lesions" if facts.counts_lesions else "images"
    return {
        "method": sets.method,
        "promise": 1 - sets.alpha,
        "fitted_on": f"{sets.lesions:,} {unit} of the validation part",
        "coverage": None if coverage is None else _metric("coverage", coverage),
        "mean_size": None if size is None else _metric("set_size", size),
    }


def _share(found: Value) -> str:
    """A share with its interval, such as `56.4% (95% interval 39.5% to 73.6%)`."""
    if found.low is None or found.high is None:
        return percent(found.value)
    return f"{percent(found.value)} (95% interval {percent(found.low)} to {percent(found.high)})"


def _of_few_lesions(facts: RunSummary, table: pd.DataFrame) -> list[str]:
    """Sentences on the classes with few test lesions, and on melanomas."""
    rests, said = lesion_counts(table), []
    few = {name: rests.classes[name][0] for name in facts.classes if rests.too_few(f"recall/{name}")}
    if few:
        rare = ", ".join(f"{name} ({lesions})" for name, lesions in few.items())
        said.append(
            f"Evaluated on fewer than {LEAST_LESIONS} lesions, {TOO_FEW} to say how good it is on them: {rare}."
        )
    melanoma = facts.values.get("recall/mel")
    if melanoma is not None and "mel" in few:
        said.append(f"It is not known how many melanomas it misses: {rests.too_few('recall/mel')}.")
    elif melanoma is not None:
        said.append(f"It recognises {_share(melanoma)} of melanomas; it takes the others for another class.")
    return said


def _limits(facts: RunSummary, model: ServedModel) -> list[str]:
    """What the network cannot do, in sentences."""
    names = ", ".join(model.classes)
    used = "trained and tested" if model.is_evaluated else "trained"
    found = [
        f"It knows {len(model.classes)} classes ({names}) and gives one of them to any image, also to healthy skin, to "
        f"other diseases and to pictures of anything else.",
        f"It was {used} on {facts.data_name or 'one data set'} only. Other cameras, lighting, skin tones and "
        f"patients may make it worse in ways that no figure here shows.",
        _OF_SETS if model.is_evaluated else OTHER_WEIGHTS,
        "A heat map shows coarsely which parts of the image raised the score of a class. It is not an outline of the "
        "lesion, and it does not prove that the network used the lesion.",
    ]
    if facts.key("dataset._target_") == DRAWN:
        found.insert(0, "It was trained on generated drawings: its predictions for photographs of skin mean nothing.")
    if not model.is_evaluated:
        return found
    if facts.predictions is None:
        found.append("No result of this network on a test part is stored.")
        return found
    found += _of_few_lesions(facts, facts.predictions)
    gap = largest_gap(facts)
    if gap is not None:
        found.append(f"It may not be equally good for all subgroups; {gap}.")
    if "skin_tone" not in facts.predictions:
        found.append("It is not known how good it is on each skin tone, since its test images have no skin tones.")
    return found

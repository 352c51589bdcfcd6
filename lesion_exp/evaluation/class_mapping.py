"""Maps the labels of a data set to the classes of a model by the taxonomy, so that the model can be tested on it.

A label becomes the class that it is, or that wholly or mostly contains it (see `taxonomy.map_label`): a common nevus is
an nv. Images whose label no class contains are marked by `is_unknown`, so no closed-set metric counts them.

The probabilities of a model are not changed. Imported ones of classes that are finer than the true ones count for
these, added up where a true class contains several (see `map_predicted_classes`). A class without an image in the data
set keeps its probability, and a prediction of it is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.errors import DataError, first_cases
from lesion_exp.evaluation.predictions import FloatArray, classes_of, is_unknown
from lesion_exp.taxonomy import IS_UNKNOWN

GIVEN_LABEL: Final = "given_label"
"""Column of predictions tables with the label in the data set; only where some label was mapped to another class."""


def class_of(name: str, known: Collection[str]) -> str | None:
    """Returns the class that a file calls `name`: one of the classes `known`, also in other case, or a code or name of
    the taxonomy; None if it is none of these."""
    if name in known:
        return name
    lowered = {label.lower(): label for label in known}
    return lowered.get(name.lower()) or taxonomy.code_of(name.lower()) or taxonomy.code_of(name)


def map_predicted_labels(predicted: Collection[str], known: Collection[str]) -> dict[str, str | None]:
    """Returns the class of each of the `predicted` labels of a file, by label.

    It is the true class that the label is or that contains it, since predictions may be finer than the truth: an `ak`
    is an `akiec` for a data set that does not tell them apart. Else it is the label's code of the taxonomy.

    Args:
        predicted: the labels as in the file.
        known: the true classes.

    Returns:
        The classes; None for labels that neither `known` nor the taxonomy has.
    """
    found = {label: class_of(label, known) for label in sorted(set(predicted))}
    codes = {name for name in found.values() if name is not None}
    return {
        label: None if name is None else taxonomy.map_label(name, known, codes) or name for label, name in found.items()
    }


def classes_of_labels(predicted: Collection[str], labels: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Returns the classes of predictions without probabilities, in alphabetical order.

    They are the predicted ones, and those true ones that none of these contains. Classes that the data set tells apart
    stay apart: where it has mel and mel_in_situ, a mel_in_situ that is predicted to be a mel is an error, also if the
    predictions know no mel_in_situ.

    Args:
        predicted: the predicted classes, as `map_predicted_labels` returns them.
        labels: the true classes of the images.
        known: the classes of the whole data set.
    """
    targets = {label: taxonomy.map_label(label, predicted, known) for label in labels}
    kept = {label if target is None or target in known else target for label, target in targets.items()}
    return tuple(sorted({*predicted, *kept}))


def predicted_mapping_in_words(labels: Iterable[str], found: Mapping[str, str | None], known: Collection[str]) -> str:
    """Returns a sentence on the predicted `labels` that count as a true class which contains them; empty without any.

    Args:
        labels: the predicted label of each image.
        found: as `map_predicted_labels` returns it.
        known: the true classes.
    """
    counts = Counter(labels)
    pairs = [
        f"{label} ({counts[label]:,} prediction{'s' * (counts[label] != 1)}) is {name}"
        for label, name in found.items()
        if label in counts and name is not None and name != class_of(label, known)
    ]
    return f"predicted classes were mapped to the true classes by the taxonomy: {', '.join(pairs)}" if pairs else ""


def map_predicted_classes(
    classes: Sequence[str], known: Collection[str], spelled: Collection[str] = ()
) -> dict[str, str]:
    """Returns the class for which the probability of each of the predicted `classes` counts, by class.

    As with predicted labels, it is the true class that contains the predicted one: where the truth has akiec alone,
    its probability is that of ak and scc together. A class that no true class contains stays.

    Args:
        classes: the classes of the predictions.
        known: the true classes.
        spelled: classes whose spelling the result has. Others are spelled as in `classes`, and else are codes.
    """
    spelling = {taxonomy.code_of(name) or name: name for name in (*classes, *spelled)}
    found = {name: taxonomy.map_label(name, known, classes) or name for name in classes}
    codes = {name: taxonomy.code_of(target) or target for name, target in found.items()}
    return {name: spelling.get(code, code) for name, code in codes.items()}


def added_up(
    probs: FloatArray, classes: Sequence[str], targets: Mapping[str, str]
) -> tuple[tuple[str, ...], FloatArray]:
    """Returns the classes in `targets` in alphabetical order, and the probabilities of each, added up: float (N, D).

    Args:
        probs: float (N, C), the probabilities of `classes`.
        classes: the predicted classes.
        targets: as `map_predicted_classes` returns it.
    """
    found = tuple(sorted(set(targets.values())))
    sums = np.zeros((len(probs), len(found)))
    for place, name in enumerate(classes):
        sums[:, found.index(targets[name])] += probs[:, place]
    return found, sums


def added_in_words(targets: Mapping[str, str]) -> str:
    """Returns a sentence on the predicted classes that count for another class; empty if none does.

    Another name of the same class is no other class.

    Args:
        targets: as `map_predicted_classes` returns it.
    """
    pairs = [
        f"{name} is {target}"
        for name, target in targets.items()
        if (taxonomy.code_of(name) or name) != (taxonomy.code_of(target) or target)
    ]
    if not pairs:
        return ""
    added = ", and the probabilities of one class added up" if len(set(targets.values())) < len(targets) else ""
    return f"predicted classes were mapped to the true classes by the taxonomy{added}: {', '.join(pairs)}"


def map_classes(table: pd.DataFrame, classes: Sequence[str], source: str) -> pd.DataFrame:
    """Returns `table` with its labels mapped to `classes`.

    The result is `table` itself if all labels are among `classes`. Otherwise it has the column `given_label`, and
    `is_unknown` if a label belongs to none of the classes.

    Args:
        table: rows of a data set, with `label`.
        classes: the classes of a model.
        source: the data set, for messages.

    Raises:
        DataError: no label can be mapped, or the images of only one class are left of a data set with several.
    """
    given = table["label"].astype(str)
    labels = sorted(set(given))
    found = {label: taxonomy.map_label(label, classes, labels) for label in labels}
    if all(label == target for label, target in found.items()):
        return table
    counts = given.value_counts()
    unmapped = [label for label, target in found.items() if target is None]
    targets = sorted({target for target in found.values() if target is not None})
    if unmapped and len(targets) < 2:
        cases = [f"{label} ({counts[label]:,} images)" for label in unmapped]
        rest = f"only images of {targets[0]} are left" if targets else "no image is left"
        raise DataError(
            f"expected images of at least two of the classes {', '.join(classes)} in {source}, but {rest}: these "
            f"labels belong to none of the classes, or to several:\n{first_cases(cases, 20)}\nuse a data set whose "
            f"labels are parts of these classes, or train a run with task.target=malignant, which only tells "
            f"malignant from benign"
        )
    mapped = given.map(found)
    result = table.assign(label=mapped.where(mapped.notna(), given), **{GIVEN_LABEL: given})
    known_before = is_unknown(table)
    return result.assign(**{IS_UNKNOWN: mapped.isna() | known_before}) if unmapped or known_before.any() else result


def mapping_of(table: pd.DataFrame) -> dict[str, Any]:
    """Returns how the labels of the images in a predictions table were mapped, as plain values for JSON.

    `mapped` has the number of images by label and class, `left_out` the images of labels that belong to none of the
    classes, `absent` the classes without an image, and `predicted_absent` the number of images that are predicted to be
    of these, which are errors. The result is empty if no label was mapped.
    """
    if GIVEN_LABEL not in table:
        return {}
    known = table[~is_unknown(table)]
    absent = [name for name in classes_of(table) if name not in set(known["label"])]
    pairs = known.groupby([GIVEN_LABEL, "label"], as_index=False).size()
    mapped: dict[str, dict[str, int]] = {}
    for given, label, count in pairs.itertuples(index=False):
        mapped.setdefault(str(label), {})[str(given)] = int(count)
    left_out = table.loc[is_unknown(table), GIVEN_LABEL].value_counts().sort_index()
    return {
        "mapped": mapped,
        "left_out": {str(label): int(count) for label, count in left_out.items()},
        "absent": absent,
        "absent_classes": "kept: their probabilities are not redistributed, and a prediction of them is an error",
        "predicted_absent": int(known["prediction"].isin(absent).sum()),
    }


def mapping_in_words(table: pd.DataFrame) -> list[str]:
    """Returns sentences on how the labels of a predictions table were mapped; none if no label was."""
    found = mapping_of(table)
    if not found:
        return []
    pairs = [
        f"{label} ({count:,} images) is {name}"
        for name, labels in found["mapped"].items()
        for label, count in labels.items()
        if label != name
    ]
    sentences = [f"labels were mapped to the classes of the model by the taxonomy: {', '.join(pairs)}"] if pairs else []
    if found["left_out"]:
        left = ", ".join(f"{label} ({count:,} images)" for label, count in found["left_out"].items())
        sentences.append(f"labels that belong to none of the classes, or to several, are left out: {left}")
    if found["absent"]:
        number = found["predicted_absent"]
        sentences.append(
            f"the data set has no image of {', '.join(found['absent'])}; the probabilities of these classes are kept, "
            f"so the {number:,} prediction{'s' * (number != 1)} of them count as errors"
        )
    return sentences

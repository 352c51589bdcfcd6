"""The measures of saliency maps, their means, and the report as text and as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from lesion_exp.evaluation.intervals import Estimate, bootstrap, lesion_of
from lesion_exp.evaluation.weighted import mean_of
from lesion_exp.explanation.saliency_map import FloatMap, Mask, centre_hit, pointing_hit, share_inside
from lesion_exp.split import PARTS

if TYPE_CHECKING:
    from lesion_exp.verbs.explain.explain import Explained

MEASURES: Final = ("pointing_game", "share_inside", "mask_share", "centre_in_mask")
"""The last two are baselines: `mask_share` is the `share_inside` of a uniform map, and `centre_in_mask` the
`pointing_game` of a map whose highest point is the centre of the image."""
ALL, RIGHT, WRONG = "all", "right", "wrong"


def measures(saliency: FloatMap, mask: Mask) -> dict[str, float]:
    """Returns the measures of a map, (H, W), all from 0 to 1; the first two are NaN for a map that is 0 everywhere."""
    found = pointing_hit(saliency, mask), share_inside(saliency, mask), float(mask.mean()), centre_hit(mask)
    return dict(zip(MEASURES, found, strict=True))


def estimates(table: pd.DataFrame, draws: int, seed: int) -> dict[str, dict[str, Estimate]]:
    """Returns the mean of each measure with its 95% interval over lesions.

    The groups of images are all images, those with right and wrong predictions, and each true class. Measures that are
    NaN for all images of a group are left out.

    Args:
        table: a row for each image, with `lesion_id`, `label`, `prediction` and the measures.
        draws: number of bootstrap draws.
        seed: seed of the draws.
    """
    right = table["label"] == table["prediction"]
    groups = {ALL: table, RIGHT: table[right], WRONG: table[~right]}
    groups |= {str(name): rows for name, rows in table.groupby("label")}
    found: dict[str, dict[str, Estimate]] = {}
    for name, rows in groups.items():
        if len(rows):
            lesion, num_lesions = lesion_of(rows)
            measured = {measure: rows[measure].to_numpy(dtype=np.float64) for measure in MEASURES}
            found[name] = bootstrap(mean_of(measured, lesion, num_lesions), num_lesions, draws, seed)
    return {name: means for name, means in found.items() if means}


_MEANINGS: Final = {
    "pointing_game": "highest point inside the lesion",
    "centre_in_mask": "  image centre inside the lesion",
    "share_inside": "saliency inside the lesion",
    "mask_share": "  image area inside the lesion",
}


def as_text(found: Sequence[Explained]) -> str:
    """Returns the results of each method as text of about 100 columns."""
    return "\n".join("\n".join([*_lines(one), ""]) for one in found)


def as_json(explained: Explained) -> dict[str, Any]:
    """Returns the results of a method as plain values; `groups` has those of all, right and wrong images and of each
    class."""
    table = explained.table
    correlation = explained.correlation
    return {
        "method": explained.method,
        "part": explained.part,
        "images": explained.num_images,
        "images_with_mask": len(table),
        "lesions_with_mask": lesion_of(table)[1],
        "images_without_evidence": int(table["share_inside"].isna().sum()),
        "groups": {
            group: {measure: estimate._asdict() for measure, estimate in means.items()}
            for group, means in explained.estimates.items()
        },
        "random_weights_correlation": None if math.isnan(correlation) else correlation,
        "notes": list(explained.notes),
        "folder": explained.folder,
        "galleries": list(explained.galleries),
    }


def _lines(explained: Explained) -> Iterator[str]:
    plain = as_json(explained)
    counts = f"{plain['images_with_mask']:,} images with a mask, {plain['lesions_with_mask']:,} lesions"
    found = counts if explained.estimates else "no image has a mask"
    yield f"{explained.method}, {PARTS[explained.part]} part: {found}"
    for measure, meaning in _MEANINGS.items():
        means = {group: explained.estimates.get(group, {}).get(measure) for group in (ALL, RIGHT, WRONG)}
        whole = means[ALL]
        if whole is not None:
            further = [f"{group} {mean.value:.3f}" for group, mean in means.items() if mean and group != ALL]
            yield f"  {meaning:<34} {_interval(whole)}   {', '.join(further)}"
    empty = plain["images_without_evidence"]
    if empty:
        yield f"  maps that are 0 everywhere         {empty:,}, left out above"
    if not math.isnan(explained.correlation):
        yield (
            f"  rank correlation with the maps of random weights: {explained.correlation:.2f} (1: the maps do not show "
            f"what was learnt)"
        )
    for note in explained.notes:
        yield f"  {note}"
    if explained.galleries:
        yield f"  galleries: {', '.join(explained.galleries)}"


def _interval(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"

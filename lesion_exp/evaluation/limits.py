"""95% limits of metrics that lie between 0 and 1, which hold at 0 and at 1 and for images of one lesion.

A percentile bootstrap cannot leave the value 1 when every draw gives 1, so "16 of 16 right" would be certain. Here each
metric is brought down to Wilson's interval with an effective number of images, and what is made of several metrics
(means, differences, net benefits) is combined from their limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from lesion_exp.evaluation.delong import PlacedArea
from lesion_exp.evaluation.predictions import FloatArray

LEAST_LESIONS: Final = 20
"""What rests on fewer lesions is neither tested nor compared, and is called "too few" wherever it is shown. The one
setting of all: comparisons, subgroups, gaps, pictures, reports and model cards read it (see `lesion_counts`)."""
_Z: Final = float(stats.norm.ppf(0.975))
_SMALL: Final = 1e-12


@dataclass(frozen=True)
class Limits:
    """A value with the ends of its 95% interval."""

    value: float
    low: float
    high: float
    influence: FloatArray | None = None
    """float64 (G,): what each group of images adds to the error of the value; None where that is not known."""


def wilson(value: float, number: float, quantile: float = _Z) -> tuple[float, float]:
    """Wilson's score interval of a proportion that was seen in `number` independent trials, which may be a fraction.

    It never has the width 0: 16 of 16 gives 0.806 to 1. Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if number <= 0:
        return 0.0, 1.0
    square = quantile**2
    middle = (value + square / (2 * number)) / (1 + square / number)
    half = quantile / (1 + square / number) * (value * (1 - value) / number + square / (4 * number**2)) ** 0.5
    low = 0.0 if value < _SMALL else max(middle - half, 0.0)
    high = 1.0 if value > 1 - _SMALL else min(middle + half, 1.0)
    return low, high


def proportion_limits(
    part: FloatArray, whole: FloatArray, otherwise: float = float("nan"), quantile: float = _Z
) -> Limits:
    """The limits of sum(part) / sum(whole): Wilson's interval with an effective number of images.

    The effective number is the one at which independent images would vary as much as the clustered ones do,
    p (1 - p) / V, with V = m / (m - 1) * sum_g (part_g - p whole_g)^2 / (sum_g whole_g)^2, the variance of a ratio over
    m clusters (Cochran 1977, Sampling Techniques, section 6). V cannot be trusted where few lesions differ from the
    rest, and is 0 at p = 0 and p = 1. So it is averaged, with the weight 1 / (1 + m min(p, 1 - p)), with the variance
    that images of one lesion would have if they were always right or wrong together: p (1 - p) / Kish's number
    (sum whole)^2 / sum whole^2 (Kish 1965, Survey Sampling). Wilson's interval with an effective number is studied by
    Franco et al. 2019, doi:10.1093/jssam/smy019.

    In simulations (`scripts/coverage.py`) 93 to 99% of the intervals hold the truth for 5 to 1,000 lesions. More than
    97% do where the number of possible results is small (few lesions, proportions near 0 or 1), which no interval
    without a random element can avoid, and at 0 and 1 all do.

    Args:
        part: float64 (G,), what counts of each group of images (a lesion or a patient): its right images, say.
        whole: float64 (G,), what could have counted.
        otherwise: the value where nothing could have counted; its limits are 0 and 1.
        quantile: of the standard normal distribution; a larger one gives an interval that holds for several results.
    """
    total = float(whole.sum())
    if total <= 0:
        return Limits(otherwise, 0.0, 1.0, np.zeros(len(whole)))
    value = min(max(float(part.sum()) / total, 0.0), 1.0)
    clusters = int(np.count_nonzero(whole))
    residuals = (part - value * whole) / total
    scale = clusters / max(clusters - 1, 1)
    kish = total**2 / float(np.square(whole).sum())
    number = _effective_number(
        value, scale * float(np.square(residuals).sum()), clusters, value * (1 - value) / kish, kish
    )
    return Limits(value, *wilson(value, number, quantile), residuals * scale**0.5)


def overlap_limits(hits: FloatArray, either: FloatArray, otherwise: float = float("nan")) -> Limits:
    """The limits of F1, hits being images that are and are predicted the class, `either` those of which one is true.

    F1 = 2 J / (1 + J) rises with the share J = hits / either (Jaccard's index), so its limits are those of the share.

    Args:
        hits: float64 (G,).
        either: float64 (G,).
        otherwise: as for `proportion_limits`.
    """
    share = proportion_limits(hits, either, otherwise)
    value, low, high = (2 * x / (1 + x) for x in (share.value, share.low, share.high))
    assert share.influence is not None, "a share has an influence"
    return Limits(value, low, high, 2 / (1 + share.value) ** 2 * share.influence)


def area_limits(area: PlacedArea) -> Limits:
    """The limits of an area under the ROC curve: Wilson's interval with an effective number of lesions.

    The effective number is A (1 - A) / V with the variance V of `placed_area` (DeLong's for clusters). V is far too
    small where few lesions are ranked wrongly. So it is averaged, with the weight 1 / (1 + k min(A, 1 - A)) for k
    lesions of the rarer kind, with the larger of itself and the variance that Hanley and McNeil 1982
    (doi:10.1148/radiology.143.1.7063747) derive from exponentially distributed scores; and the quantile is Student's
    with k - 1 degrees of freedom. At A = 1 the effective number is k.

    In simulations 95 to 99% of the intervals hold the truth for 5 to 60 lesions of the rarer kind and areas of 0.64 to
    0.97, up to 99.7% above (percentiles of a bootstrap: 55 to 96%).
    """
    positives, negatives = area.lesions
    rarer = min(positives, negatives)
    value = area.auroc
    variance = float(np.square(area.influence).sum())
    supposed = max(variance, _hanley_mcneil(value, positives, negatives))
    number = _effective_number(value, variance, rarer, supposed, rarer)
    return Limits(value, *wilson(value, number, _student(rarer)), area.influence)


def bounded_limits(value: float, drawn: FloatArray, lesions: int, highest: float = 1.0, lowest: float = 0.0) -> Limits:
    """The limits of any other metric between `lowest` and `highest` from its bootstrap draws: Wilson's interval again.

    The variance of the draws, which is too small by (k - 1) / k, takes the place of V in `proportion_limits`, k lesions
    that of Kish's number, and the quantile is Student's with k - 1 degrees of freedom.

    Args:
        value: the metric.
        drawn: float64 (D,), its bootstrap draws, NaN where a draw does not determine it.
        lesions: k, the number of lesions that the metric rests on: those of the class for its average precision.
        highest: the largest value that the metric can take.
        lowest: its smallest value.
    """
    width = highest - lowest
    known = (drawn[~np.isnan(drawn)] - lowest) / width
    share = min(max((value - lowest) / width, 0.0), 1.0)
    variance = float(known.var(ddof=1)) * lesions / max(lesions - 1, 1) if len(known) > 1 else 0.0
    number = _effective_number(share, variance, lesions, max(variance, share * (1 - share) / lesions), lesions)
    low, high = wilson(share, number, _student(lesions))
    return Limits(value, lowest + low * width, lowest + high * width)


def combined_limits(coefficients: Sequence[float], parts: Sequence[Limits]) -> Limits:
    """The limits of a weighted sum of metrics from the limits of each: a mean, a difference, a net benefit.

    MOVER, the method of variance estimates recovery: the low end lies below the value by the root of
    sum_ij r_ij d_i d_j, d_i being the distance from part i to its low end (times the coefficient; to its high end where
    that is negative), and r_ij the correlation of the parts over lesions, 0 where one of them does not vary. For a
    difference of two proportions this is Newcombe's interval for paired data (his method 10).
    Sources: Zou and Donner 2008, doi:10.1002/sim.3095; Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22.
    """
    value = sum(c * part.value for c, part in zip(coefficients, parts, strict=True))
    down, up = (
        np.array([_distance(c, part, sign) for c, part in zip(coefficients, parts, strict=True)]) for sign in (-1, 1)
    )
    influences = [part.influence for part in parts]
    if any(influence is None for influence in influences):
        correlation, influence = np.eye(len(parts)), None
    else:
        weighted = [c * found for c, found in zip(coefficients, influences, strict=True) if found is not None]
        correlation, influence = _correlation(np.stack(weighted)), np.sum(weighted, axis=0)
    low, high = (float(max(d @ correlation @ d, 0.0)) ** 0.5 for d in (down, up))
    return Limits(value, value - low, value + high, influence)


def mean_limits(parts: Sequence[Limits]) -> Limits:
    """The limits of the mean of `parts`; NaN without any."""
    if not parts:
        return Limits(float("nan"), float("nan"), float("nan"))
    return combined_limits([1 / len(parts)] * len(parts), parts)


def _distance(coefficient: float, part: Limits, sign: int) -> float:
    """How far the end of `part` on this side of the sum lies from its value, times the coefficient; at least 0."""
    end = part.high if coefficient * sign > 0 else part.low
    return abs(coefficient * (end - part.value))


def _correlation(rows: FloatArray) -> FloatArray:
    """The correlation of C influences, (C, G) -> (C, C); that of a row of zeros with all others is 0."""
    products = rows @ rows.T
    size = np.sqrt(np.diag(products))
    known = size > _SMALL
    scale = np.where(known, 1 / np.where(known, size, 1.0), 0.0)
    found: FloatArray = products * scale[:, None] * scale[None, :]
    np.fill_diagonal(found, 1.0)
    return found


def _effective_number(value: float, variance: float, lesions: float, supposed: float, at_the_edge: float) -> float:
    """value (1 - value) over the mean of `variance`, as estimated, and `supposed`, which counts where few lesions
    differ from the rest."""
    spread = value * (1 - value)
    if spread < _SMALL:
        return at_the_edge
    trust = lesions * min(value, 1 - value)
    trust /= 1 + trust
    return spread / (trust * variance + (1 - trust) * supposed)


def _student(lesions: int) -> float:
    return float(stats.t.ppf(0.975, max(lesions - 1, 1)))


def _hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """The variance of an area from so many positives and negatives, whichever of the two varies more."""
    first, second = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    spread = area * (1 - area)

    def variance(one: int, other: int) -> float:
        return (spread + (one - 1) * first + (other - 1) * second) / (one * other)

    return max(variance(positives, negatives), variance(negatives, positives))

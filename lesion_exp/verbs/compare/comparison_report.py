"""The report of a comparison: the result for each pair in words, and everything as plain values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.evaluation.comparison import SIGNIFICANT, Comparison, Difference, Group, Pair
from lesion_exp.evaluation.lesion_counts import TOO_FEW, too_few
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.trained_runs.wording import listed
from lesion_exp.verbs.compare.jobs import ComparedJob


def p_text(p_value: float | None) -> str:
    """Returns a p-value with three decimals, or `-` for None."""
    return "-" if p_value is None else "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def verdict(pair: Pair, comparison: Comparison) -> str:
    """Returns the result for a pair in words: the difference in accuracy, how many lesions decide it, and the other
    metrics with significant differences. With fewer than `LEAST_LESIONS` lesions it only says that they are too few."""
    accuracy = pair.differences["accuracy"]
    if accuracy.test == TOO_FEW:
        return f"{too_few(accuracy.lesions, comparison.unit)} to compare: at least {LEAST_LESIONS} are needed."
    ahead = pair.first if accuracy.difference >= 0 else pair.second
    p_value = p_text(accuracy.p_corrected)
    lead = f"p {p_value}" if p_value.startswith("<") else f"p = {p_value}"
    change = "wrong instead of right" if accuracy.significant else "right instead of wrong"
    if pair.to_change is None:
        carried = f"no number of changed predictions of {ahead} would change this"
    else:
        each = "" if pair.only_first is not None else ", in the mean of its seeds"
        lesions = f"{comparison.counted(pair.to_change)} of {comparison.num_lesions:,}"
        end = "undo" if accuracy.significant else "alter"
        carried = f"the predictions of {lesions} would have to change to {end} this ({ahead} {change}{each})"
    if accuracy.significant:
        return f"{ahead} is ahead in accuracy ({lead}): {carried}. {_others(pair, comparison)}"
    return f"not distinguishable in accuracy ({lead}): {carried}. {_others(pair, comparison)}"


def _others(pair: Pair, comparison: Comparison) -> str:
    found = {name: d for name, d in pair.differences.items() if d.significant and name != "accuracy"}
    open_ones = {name: d for name, d in found.items() if comparison.added.get(name, True) is None}
    overall = {name: found[name] for name in comparison.overall() if name in found and name not in open_ones}
    classes = {name: d for name, d in found.items() if name not in {*overall, *open_ones}}
    if not found:
        return "No other metric is distinguishable."
    lower = frozenset(name for name in found if comparison.is_lower_better(name))
    listed = (("Better", overall), ("By class", classes), ("Higher", open_ones))
    return " ".join(f"{text}." for heading, named in listed for text in _listed(pair, named, heading, lower))


def _listed(pair: Pair, found: Mapping[str, Difference], heading: str, lower: Collection[str]) -> list[str]:
    """Who is better in which of the metrics `found`, as no text or one; of those in `lower` less is better."""
    better: dict[str, list[str]] = {pair.first: [], pair.second: []}
    for name, difference in found.items():
        first = (difference.difference > 0) != (name in lower)
        better[pair.first if first else pair.second].append(name)
    texts = [f"{letter} in {', '.join(names)}" for letter, names in better.items() if names]
    return [f"{heading}: {'; '.join(texts)}"] if texts else []


_MOST_NAMED: Final = 3
"""Number of differences that a sentence names."""
METHODS: Final = {
    "interval": "95%, paired over lesions: Wilson's with an effective number of images, combined for means and "
    "differences (Newcombe); of brier, nll, differences of areas and of ece, and metrics that configs add a paired "
    "bootstrap",
    "McNemar": "McNemar's exact test of right predictions; the images of a lesion change sign together",
    "DeLong": "DeLong's test of whether two areas under the ROC curve differ: it counts how often each model ranks an "
    "image of the class above one of another class, on the same images (DeLong 1988; for images that are clustered in "
    "lesions Obuchowski 1997)",
    "permuted": "predictions exchanged at random, lesion by lesion: the share of differences at least as large",
    "seeds": "t test of means over seeds; its standard error counts lesions (bootstrap) and the variance of seeds",
    "one seed": "these trained models are compared; the interval does not contain the variation of repeated training",
    TOO_FEW: f"the metric rests on fewer than {LEAST_LESIONS} lesions (n of them), so nothing is tested",
    "p_corrected": "accuracy: Holm's correction for the pairs; all other metrics: for their number (Westfall and "
    "Young) and the pairs; both times 2, because accuracy and the others share the level of 5%",
    "interval_and_p": "an interval is that of one difference alone, but p is corrected for all differences that are "
    "tested, and both are computed in different ways; whether a difference is significant depends on p",
}
"""What the tables show, in words, where intervals and tests are over lesions."""


def method(name: str, comparison: Comparison) -> str:
    """Returns a sentence of `METHODS` for what the intervals and tests of `comparison` are over."""
    return METHODS[name].replace("lesion", comparison.unit)


def disagreement(pairs: Sequence[Pair]) -> str | None:
    """Returns a sentence on the differences whose interval and p-value say different things; None if there are none."""
    above: list[str] = []
    below: list[str] = []
    for pair in pairs:
        for name, found in pair.differences.items():
            if found.p_corrected is not None and found.excludes_zero != found.significant:
                (above if found.excludes_zero else below).append(f"{name} ({pair.first} - {pair.second})")
    if not above and not below:
        return None
    told = [f"the interval of {_some(above)} excludes 0 although p is not below {SIGNIFICANT:g}"] if above else []
    told += [f"the interval of {_some(below)} contains 0 although p is below {SIGNIFICANT:g}"] if below else []
    return f"{', and '.join(told)}: {METHODS['interval_and_p']}"


def _some(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = len(names) - _MOST_NAMED
    return listed([*names[:_MOST_NAMED], *([f"{more} more"] if more > 0 else [])])


@dataclass(frozen=True)
class ComparisonReport:
    """A comparison with its jobs, options and notes."""

    part: str
    jobs: tuple[ComparedJob, ...]
    comparison: Comparison
    config_differences: dict[str, dict[str, str | None]]
    notes: tuple[str, ...]
    """Warnings and remarks for the reader."""
    draws: int
    seed: int

    def verdict(self, pair: Pair) -> str:
        """Returns the result for a pair in words."""
        return verdict(pair, self.comparison)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain values, for `--json` and the artifact."""
        found = self.comparison
        return {
            "part": self.part,
            "images": found.num_images,
            "unit": found.unit,
            "lesions": found.num_lesions,
            "classes": found.class_images,
            "added_metrics": {name: {"higher_is_better": higher} for name, higher in found.added.items()},
            "jobs": [self._job(job) for job in self.jobs],
            "pooled": [_values(group, found) for group in found.groups if group.letter not in self._letters()],
            "pairs": [self._pair(pair) for pair in found.pairs],
            "config_differences": self.config_differences,
            "notes": list(self.notes),
            "bootstrap_draws": self.draws,
            "bootstrap_seed": self.seed,
            "significant_below": SIGNIFICANT,
            "methods": {
                name: method(name, found) for name in ("interval", *self.methods(), "p_corrected", "interval_and_p")
            },
        }

    def methods(self) -> list[str]:
        """Returns the keys in `METHODS` of the tests that were used, and `one seed` if single runs were compared."""
        pairs = self.comparison.pairs
        tests = dict.fromkeys(difference.test for pair in pairs for difference in pair.differences.values())
        return [*tests, *(["one seed"] if any(pair.only_first is not None for pair in pairs) else [])]

    def _letters(self) -> set[str]:
        return {job.letter for job in self.jobs}

    def _job(self, job: ComparedJob) -> dict[str, Any]:
        group = next(group for group in self.comparison.groups if group.letter == job.letter)
        return {
            **_values(group, self.comparison),
            "name": job.name,
            "title": job.title,
            "runs": [run.run_id for run in job.runs],
            "seeds": list(job.seeds),
        }

    def _pair(self, pair: Pair) -> dict[str, Any]:
        return {
            "first": pair.first,
            "second": pair.second,
            "verdict": self.verdict(pair),
            "lesions_to_change": pair.to_change,
            "only_first_right": pair.only_first,
            "only_second_right": pair.only_second,
            "differences": {name: _difference(difference) for name, difference in pair.differences.items()},
        }


def _values(group: Group, comparison: Comparison) -> dict[str, Any]:
    metrics: Mapping[str, Any] = {
        name: {
            "mean": value.value,
            "sd": group.deviation(name),
            "low": value.low,
            "high": value.high,
            "by_run": group.by_run[name],
            **({"too_few": few} if (few := comparison.too_few(name)) else {}),
        }
        for name, value in group.values.items()
    }
    return {"letter": group.letter, "metrics": metrics}


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.difference,
        "low": difference.low,
        "high": difference.high,
        "test": difference.test,
        "lesions": difference.lesions,
        "p": difference.p,
        "p_corrected": difference.p_corrected,
        "distinguishable": difference.significant,
    }

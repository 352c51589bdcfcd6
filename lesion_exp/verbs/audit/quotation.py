"""The result of an audit as a paragraph that can be quoted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lesion_exp.evaluation.registry import short_of
from lesion_exp.split import PARTS
from lesion_exp.split.audit import Audit
from lesion_exp.split.overlap import ALL, ANY, CHAIN, NEAR, Overlap
from lesion_exp.trained_runs.wording import counted, listed, percent
from lesion_exp.verbs.audit.scores import Scores

KINDS: Final = {
    "patients": "by the patient",
    "lesions": "by the lesion",
    "identical_images": "by a byte-identical image",
    "copies": "by a cropped or altered copy",
    NEAR: "by a near-duplicate",
    CHAIN: "only by a chain of such relations",
}
"""Kind of a relation -> how an image is touched; an image may be touched in several ways."""


def quotation(dataset: str, audit: Audit, overlaps: Sequence[Overlap], scores: Scores | None) -> str:
    """Returns the paragraph: the sizes of the parts, what they share, and the scores with and without it."""
    nothing_named = audit.unnamed_images == audit.num_images
    sizes = []
    for part, facts in audit.parts.items():
        if facts["images"]:
            lesions = "" if nothing_named else f" of {counted(facts['lesions'], 'lesion')}"
            sizes.append(f"{counted(facts['images'], f'{PARTS[part]} image')}{lesions}")
    sentences = [f"The split of {dataset} has {listed(sizes)}."]
    if nothing_named:
        sentences.append("The data set names neither lesions nor patients, so only pictures could be compared.")
    sentences += [_shared(each) for each in overlaps]
    if scores is not None:
        sentences += _scored(scores)
    return " ".join(sentences)


def _shared(found: Overlap) -> str:
    none = {ALL: 0}
    whole, touched = found.images[ALL], found.touched[ANY][ALL]
    part, other = PARTS[found.part], PARTS[found.other]
    if not touched:
        return f"No {part} image shows a lesion, patient or picture of the {other} part."
    kinds = [
        f"{found.touched[kind][ALL]:,} {words}" for kind, words in KINDS.items() if found.touched.get(kind, none)[ALL]
    ]
    return (
        f"Of the {counted(whole, f'{part} image')}, {touched:,} ({percent(touched / whole)}) "
        f"{'is' if touched == 1 else 'are'} touched by the "
        f"{other} part: {listed(kinds)}."
    )


def _scored(found: Scores) -> list[str]:
    sentences = []
    for name in ("accuracy", "balanced_accuracy"):
        row = found.metrics.get(name, {})
        if "all" not in row:
            continue
        score = f"{short_of(name)} of {found.source}"
        text = f"The {score} is {row['all'].value:.3f} on all {found.images['all']:,} test images"
        if "difference" in row:
            gap = row["difference"]
            text += (
                f" and {row['untouched'].value:.3f} on the {found.images['untouched']:,} untouched ones (difference "
                f"{gap.value:+z.3f}, 95% interval over lesions {gap.low:+z.3f} to {gap.high:+z.3f})"
            )
        sentences.append(f"{text}.")
    return sentences

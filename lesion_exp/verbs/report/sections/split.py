"""The sections on the data, the split and its audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lesion_exp.split import PARTS
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import AUDIT, FLOW, RunSummary
from lesion_exp.trained_runs.statements import split_in_words
from lesion_exp.trained_runs.wording import NONE, counted, listed, percent
from lesion_exp.training.lineage import CROSSINGS as LINEAGE
from lesion_exp.verbs.report.blocks import Block, Cell, Note, Pairs, Section, Table, Text, not_stored

_CROSSINGS = {
    "patients": "patients",
    "lesions": "lesions",
    "groups": "groups (images that must not be separated)",
    "identical_images": "byte-identical images",
    "copies": "pictures with cropped or altered copies",
    "near_duplicate_pairs": "pairs of near-duplicate images",
    **LINEAGE,
}


def split(facts: RunSummary) -> Section:
    """Returns the section on the split."""
    blocks: list[Block] = [Text(words) for words in [split_in_words(facts)] if words]
    if not facts.parts:
        return Section("split", "Split and audit", [*blocks, not_stored(AUDIT)])
    blocks += [_verdict(facts), *_tables(facts), *_pseudo_labels(facts), *_notes(facts)]
    return Section("split", "Split and audit", blocks)


def _verdict(facts: RunSummary) -> Note:
    unnamed = facts.audit.get("unnamed_images", 0)
    if facts.audit.get("passed"):
        named = f" ({counted(unnamed, 'image')} without any id count as a lesion each)" if unnamed else ""
        return Note(f"The audit passed: no patient, lesion or image is in two parts{named}.", "good")
    taught = {kind: facts.audit.get("crossings", {}).get(kind, {}).get("count", 0) for kind in LINEAGE}
    if any(taught.values()):
        cases = [f"{count:,} {LINEAGE[kind]}" for kind, count in taught.items() if count]
        return Note(f"The audit FAILED: there are {listed(cases)}.")
    lesion = facts.audit.get("test_rows_with_lesion_in_train", {}).get("all", 0.0)
    image = facts.audit.get("test_rows_with_image_in_train", {}).get("all", 0.0)
    return Note(f"The audit FAILED: the training part has the lesion of {percent(lesion)} of the test rows, and the "
                f"identical image of {percent(image)}.")  # fmt: skip


def _tables(facts: RunSummary) -> list[Block]:
    parts = [part for part in PARTS if part in facts.parts]
    units = ["images", *(["lesions"] if facts.counts_lesions else [])]
    units += ["patients"] if any(facts.parts[part].get("patients") for part in parts) else []
    sizes: list[list[Cell]] = [[unit, *(f"{facts.parts[part].get(unit, 0):,}" for part in parts)] for unit in units]
    for name in facts.classes:
        counts = [facts.parts[part].get("counts", {}).get(name, 0) for part in parts]
        shares = [count / max(facts.parts[part]["images"], 1) for part, count in zip(parts, counts, strict=True)]
        title = facts.full_name(name)
        words = name if title == name else f"{name}: {title}"
        sizes.append([words, *(f"{c:,} ({percent(s)})" for c, s in zip(counts, shares, strict=True))])
    crossings = facts.audit.get("crossings", {})
    rows: list[list[Cell]] = [
        [words, f"{crossings[kind]['count']:,}", ", ".join(map(str, crossings[kind]["cases"][:3])) or "–"]
        for kind, words in _CROSSINGS.items()
        if kind in crossings
    ]
    return [
        Table("Each part by class", ["number of", *(f">{PARTS[part]}" for part in parts)], sizes),
        Table("Overlap between parts", ["kind", ">number", "first cases"], rows),
    ]


def _pseudo_labels(facts: RunSummary) -> list[Block]:
    """The pseudo-labelled images of the training part by class, and where their labels come from."""
    found = facts.audit.get("pseudo_labels")
    if not isinstance(found, dict):
        return []
    rows: list[list[Cell]] = [
        [
            name,
            f"{count:,}",
            _rounded(found.get("thresholds", {}).get(name)),
            _rounded(found.get("mean_confidence", {}).get(name)),
        ]
        for name, count in found.get("counts", {}).items()
    ]
    runs, calibrations = (
        listed([str(name) for name in found.get(key, [])]) or NONE for key in ("run_id", "calibration")
    )
    words = (
        f"Pseudo-labels: {counted(found['images'], 'further training image')} with a weight of {found['weight']:g} in "
        f"the loss, of {found['in_file']:,} in {found['file']} (SHA-256 {found['sha256']}); predicted by run {runs}, "
        f"calibration {calibrations}. The table of the parts does not count them."
    )
    left_out = [f"{count:,}, since {reason}" for reason, count in found.get("left_out", {}).items()]
    blocks: list[Block] = [Text(words)]
    blocks += [Text(f"Left out of the training part: {'; '.join(left_out)}.")] if left_out else []
    columns = ["class", ">images", ">threshold", ">mean probability"]
    return [*blocks, Table("Pseudo-labelled images of the training part", columns, rows)]


def _rounded(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _notes(facts: RunSummary) -> list[Block]:
    return [Note(f"{str(text)[:1].upper()}{str(text)[1:]}.") for text in facts.audit.get("warnings", [])]


CHARACTERISTICS: Final = artifacts.CHARACTERISTICS
_MOST_CASES: Final = 10
_MOST_SITES: Final = 16


def data_flow(facts: RunSummary) -> Section:
    """Returns the section on data."""
    return Section("data", "Data", [*_identity(facts), *_flow(facts), *_characteristics(facts)])


def _identity(facts: RunSummary) -> list[Block]:
    known = facts.identity
    if facts.has_own_data:
        words = "Citation, licence and address of these data are not known here: the author has to add them."
        return [Pairs({"data set": facts.data_name or NONE}, wide=True), Text(words)]
    if not known:
        return [not_stored("citation and licence of the data set")]
    names = {"data set": "title", "citation": "citation", "licence": "licence", "address": "where"}
    return [Pairs({words: str(known.get(name, NONE)) for words, name in names.items()}, wide=True)]


def _flow(facts: RunSummary) -> list[Block]:
    steps = facts.flow.get("steps", [])
    if not steps:
        return [not_stored(FLOW)]
    units = ["lesions"] if facts.counts_lesions else []
    units += ["patients"] if any(step.get("patients") for step in steps) else []
    rows: list[list[Cell]] = []
    for number, step in enumerate(steps):
        before = steps[number - 1] if number else step
        change = f"{step['images'] - before['images']:,}" if number else NONE
        rows.append([step["step"], f"{step['images']:,}", change, *(f"{step.get(unit, 0):,}" for unit in units)])
    columns = ["after", ">images", ">change", *(f">{unit}" for unit in units)]
    blocks: list[Block] = [Table("Images after each step, from the files to the split", columns, rows)]
    blocks.append(Text(_left_out(facts.flow.get("left_out", []))))
    differs = facts.flow.get("differs_from_published", {})
    if differs:
        words = [f"{code} {found:,} instead of {published:,}" for code, (found, published) in differs.items()]
        blocks.append(Note(f"The data set differs from the published counts: {listed(words)}."))
    return blocks


def _left_out(cases: Sequence[Mapping[str, str]]) -> str:
    """The number of unusable images, the reasons and the first ids; reasons with a path are not shown in full."""
    if not cases:
        return "No image was left out as unusable."
    reasons = Counter("cannot be decoded" if "/" in case["reason"] else case["reason"] for case in cases)
    why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    names = ", ".join(str(case["image_id"]) for case in cases[:_MOST_CASES])
    more = f" and {len(cases) - _MOST_CASES:,} more" if len(cases) > _MOST_CASES else ""
    return f"{counted(len(cases), 'image')} left out as unusable ({why}): {names}{more}."


def _characteristics(facts: RunSummary) -> list[Block]:
    found = facts.kept.mapping(CHARACTERISTICS)
    parts = [part for part in PARTS if part in found]
    if not parts:
        return [not_stored("age, sex, site and source of the images in each part")]
    rows: list[list[Cell]] = [["images", *(f"{found[part]['images']:,}" for part in parts)]]
    rows.append(["age, median (quartiles)", *(_ages(found[part]["age"]) for part in parts)])
    rows.append(["age unknown", *(_share(found[part]["age"]["unknown"], found[part]["images"]) for part in parts)])
    for attribute in ("sex", "site", "source"):
        totals: Counter[str] = Counter()
        for part in parts:
            totals.update(found[part][attribute])
        names = [name for name, _ in totals.most_common()]
        for name in names[:_MOST_SITES]:
            cells = [_share(found[part][attribute].get(name, 0), found[part]["images"]) for part in parts]
            rows.append([f"{attribute}: {name}", *cells])
        if len(names) > _MOST_SITES:
            rows.append([f"{attribute}: {counted(len(names) - _MOST_SITES, 'further value')}", *([NONE] * len(parts))])
    columns = ["characteristic", *(f">{PARTS[part]}" for part in parts)]
    return [Table("Characteristics of each part", columns, rows)]


def _ages(age: Mapping[str, Any]) -> str:
    return NONE if age["median"] is None else f"{age['median']:g} ({age['lower']:g} to {age['upper']:g})"


def _share(count: int, of: int) -> str:
    return f"{count:,} ({percent(count / max(of, 1))})"

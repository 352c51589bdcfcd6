"""How the images were divided, and the proof that nothing lies in two parts."""

from __future__ import annotations

from lesion_exp.split import PARTS
from lesion_exp.trained_runs.run_summary import AUDIT, RunSummary
from lesion_exp.trained_runs.statements import split_in_words
from lesion_exp.trained_runs.wording import counted, percent
from lesion_exp.verbs.report.blocks import Block, Cell, Note, Section, Table, Text, not_stored

_CROSSINGS = {
    "patients": "patients",
    "lesions": "lesions",
    "groups": "groups (what must stay together)",
    "identical_images": "byte-identical images",
    "near_duplicate_pairs": "pairs of near-duplicate images",
}


def split(facts: RunSummary) -> Section:
    """The section on the split."""
    blocks: list[Block] = [Text(words) for words in [split_in_words(facts)] if words]
    if not facts.parts:
        return Section("split", "Split and audit", [*blocks, not_stored(AUDIT)])
    return Section("split", "Split and audit", [*blocks, _verdict(facts), *_tables(facts), *_notes(facts)])


def _verdict(facts: RunSummary) -> Note:
    unnamed = facts.audit.get("unnamed_images", 0)
    if facts.audit.get("passed"):
        named = f" ({counted(unnamed, 'image')} without any id count as a lesion each)" if unnamed else ""
        return Note(f"The audit passed: no patient, lesion or picture lies in two parts{named}.", "good")
    lesion = facts.audit.get("test_rows_with_lesion_in_train", {}).get("all", 0.0)
    image = facts.audit.get("test_rows_with_image_in_train", {}).get("all", 0.0)
    return Note(f"The audit FAILED: {percent(lesion)} of the test rows have their lesion in training, "
                f"{percent(image)} their very image.")  # fmt: skip


def _tables(facts: RunSummary) -> list[Block]:
    parts = [part for part in PARTS if part in facts.parts]
    sizes: list[list[Cell]] = [
        [unit, *(f"{facts.parts[part].get(unit, 0):,}" for part in parts)]
        for unit in ("images", "lesions", "patients")
        if unit != "patients" or any(facts.parts[part].get("patients") for part in parts)
    ]
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
        Table("Each part by class", ["count of", *(f">{PARTS[part]}" for part in parts)], sizes),
        Table("What lies in more than one part", ["kind", ">how many", "first cases"], rows),
    ]


def _notes(facts: RunSummary) -> list[Block]:
    return [Note(f"{str(text)[:1].upper()}{str(text)[1:]}.") for text in facts.audit.get("warnings", [])]

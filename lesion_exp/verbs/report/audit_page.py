"""The page of an audit of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lesion_exp import taxonomy
from lesion_exp.evaluation.registry import words_of
from lesion_exp.split import PARTS
from lesion_exp.split.overlap import ALL, ANY, CHAIN, NEAR
from lesion_exp.trained_runs.wording import NONE, as_value, listed, percent, with_interval
from lesion_exp.verbs.report.blocks import Block, Cell, Note, Section, Table, Text
from lesion_exp.verbs.report.page import Page

KINDS: Final = {
    "patients": "same patient",
    "lesions": "same lesion",
    "identical_images": "byte-identical image",
    "copies": "cropped or altered copy",
    NEAR: "near-duplicate image",
    CHAIN: "only by a chain",
    ANY: "any of these",
}
_UNITS: Final = {
    "patients": "patients",
    "lesions": "lesions",
    "identical_images": "distinct files",
    "copies": "pictures with altered copies",
    NEAR: "pairs of near-duplicates",
}
_SETS: Final = {"all": "all test images", "untouched": "untouched images", "touched": "touched images"}


def audit_page(facts: Mapping[str, Any]) -> Page:
    """Returns the page.

    Args:
        facts: what `audit --json` prints.
    """
    sections = [_summary(facts), _parts(facts["audit"]["parts"]), *(_overlap(each) for each in facts["overlaps"])]
    if facts["scores"] is not None:
        sections.append(_scores(facts["scores"]))
    sections += [_cases(facts["audit"]["crossings"]), _method()]
    labels = {name for counts in facts["audit"]["parts"].values() for name in counts["counts"]}
    meanings = {name: words for name, words in taxonomy.full_names(sorted(labels)).items() if name != words}
    below_title = {"data set": str(facts["dataset"]), "split": "; ".join(facts["split"]), "hash": facts["split_hash"]}
    return Page(f"{facts['dataset']}: {facts['split'][0]}", "Audit of a split", below_title, sections, meanings)


def _summary(facts: Mapping[str, Any]) -> Section:
    good = "No patient, lesion or picture is in two parts."
    bad = "Patients, lesions or pictures are in several parts: scores on this split are no scores on new lesions."
    verdict = Note(good, "good") if facts["passed"] else Note(bad)
    notes = [
        Note(f"{str(text)[:1].upper()}{str(text)[1:]}.") for text in (*facts["notes"], *facts["audit"]["warnings"])
    ]
    return Section("summary", "Summary", [Text(facts["paragraph"], lead=True), verdict, *notes])


def _parts(found: Mapping[str, Any]) -> Section:
    parts = [part for part in PARTS if found[part]["images"]]
    rows: list[list[Cell]] = [
        [unit, *(f"{found[part][unit]:,}" for part in parts)] for unit in ("images", "lesions", "patients", "groups")
    ]
    for name in found[parts[0]]["counts"]:
        counts = ((found[part]["counts"][name], found[part]["prevalence"][name]) for part in parts)
        rows += [[name, *(f"{count:,} ({percent(share)})" for count, share in counts)]]
    table = Table(
        "Each part by class; images without a lesion count as a lesion each",
        ["number of", *(f">{PARTS[part]}" for part in parts)],
        rows,
    )
    return Section("parts", "The parts", [table])


def _overlap(found: Mapping[str, Any]) -> Section:
    part, other = PARTS[found["part"]], PARTS[found["other"]]
    labels = [*(name for name in found["images"] if name != ALL), ALL]
    kinds = [kind for kind in KINDS if kind in found["touched"]]
    columns = ["class", ">images", *(f">{KINDS[kind]}" for kind in kinds), ">share touched"]
    touched: list[list[Cell]] = [
        [
            label,
            f"{found['images'][label]:,}",
            *(f"{found['touched'][kind][label]:,}" for kind in kinds),
            percent(found["share"][ANY][label]),
        ]
        for label in labels
    ]
    crossing: list[list[Cell]] = [
        [label, *(f"{found['crossing'][kind][label]:,}" for kind in found["crossing"])] for label in labels
    ]
    units = [f">{_UNITS[kind]}" for kind in found["crossing"]]
    blocks: list[Block] = [
        Table(
            f"Images of the {part} part that have this in common with an image of the {other} part", columns, touched
        ),
        Table(f"What is in both the {part} and the {other} part", ["class", *units], crossing),
    ]
    return Section(
        f"{found['part']}-{found['other']}", f"{part.capitalize()} images that the {other} part touches", blocks
    )


def _scores(found: Mapping[str, Any]) -> Section:
    rows: list[list[Cell]] = [["images", *(f"{found['images'][where]:,}" for where in _SETS), NONE]]
    for name, values in found["metrics"].items():
        cells = [with_interval(as_value(values.get(where))) for where in (*_SETS, "difference")]
        rows.append([words_of(name), *cells])
    columns = ["metric", *(f">{words}" for words in _SETS.values()), ">all minus untouched"]
    caution = (
        "The difference is that between two sets of test images for one network. It includes how hard these images "
        "are, and it does not say how a network would score that was trained without the touched lesions."
    )
    blocks: list[Block] = [
        Table(f"Scores of {found['source']} (95% interval over lesions)", columns, rows),
        Text(caution),
    ]
    return Section("scores", "Scores with and without the touched images", blocks)


def _cases(crossings: Mapping[str, Any]) -> Section:
    rows: list[list[Cell]] = [
        [kind.replace("_", " "), f"{found['count']:,}", listed(found["cases"]) or NONE]
        for kind, found in crossings.items()
    ]
    return Section(
        "cases", "Cases", [Table("In more than one part", ["kind", ">number", "first cases"], rows, wraps=True)]
    )


def _method() -> Section:
    text = (
        "An image is touched if its group has an image in the other part. A group is a patient where that is known, "
        "else a lesion, united with byte-identical and near-duplicate images, also by a chain of these relations. "
        "Near-duplicates are found by perceptual hashes and thumbnails: copies that were saved again, resized, turned "
        "or mirrored. Copies that were cropped or have hair over them are searched for with "
        "split.near_duplicates=features alone. All counts are lower bounds."
    )
    return Section("method", "How this was found", [Text(text)])

"""Pictures that the run keeps: images as the network saw them, right and wrong ones, maps of evidence."""

from __future__ import annotations

import base64
import io
from pathlib import Path, PurePosixPath
from typing import Final

from PIL import Image

from lesion_exp.evaluation.failures import failures as worst
from lesion_exp.file_kind import FORMATS
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import Value, counted, interval, number
from lesion_exp.verbs.report.blocks import Block, Cell, Picture, Section, Table, Text, not_stored

WIDEST: Final = 1400
"""Pixels; more is not seen on a page."""
_QUALITY: Final = 82


def picture_address(path: Path) -> str | None:
    """The picture as a `data:` address, as JPEG of at most 1400 pixels width; None where it cannot be read."""
    try:
        with Image.open(path, formats=tuple(FORMATS)) as opened:
            image = opened.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if image.width > WIDEST:
        image = image.resize((WIDEST, max(1, round(image.height * WIDEST / image.width))), Image.Resampling.LANCZOS)
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    buffer = io.BytesIO()
    paper.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


BATCH: Final = artifacts.BATCH_FIGURE
RIGHT: Final = "gallery/right_{part}.png"
WRONG: Final = "gallery/wrong_{part}.png"
_EXPLANATIONS: Final = "explanations"
_MEASURES: Final = {
    "pointing_game": "highest point inside the lesion",
    "centre_in_mask": "the image's centre inside the lesion",
    "share_inside": "share of the evidence inside the lesion",
    "mask_share": "share of the image that the lesion covers",
    "random_weights_correlation": "rank correlation with the maps of random weights",
}
"""What lesion-exp explain measures, as its own table says it."""
_MOST: Final = 8
"""Pictures of explanations that travel inside the page; all stay with the run."""


def galleries(facts: RunSummary) -> Section:
    """The section with pictures."""
    chosen = {
        BATCH: "Images of the training part as the network sees them, augmented, with their classes",
        RIGHT.format(part=facts.part): "The surest right predictions of each class, with their probability",
    }
    blocks: list[Block] = [block for name, words in chosen.items() for block in picture(facts, name, words)]
    if not blocks:
        why = "The run was told to keep none (tracking.log_images=false)." if _none_wanted(facts) else ""
        blocks = [not_stored("pictures of images", why)]
    return Section("galleries", "Galleries", [*blocks, *_explanations(facts)])


def picture(facts: RunSummary, name: str, caption: str) -> list[Block]:
    """The picture that the run keeps as `name`, if it does."""
    path = facts.kept.path(name)
    address = None if path is None else picture_address(path)
    return [Picture(address, caption, caption)] if address else []


def _none_wanted(facts: RunSummary) -> bool:
    return facts.key("tracking.log_images") is False


def _is_other(name: str, part: str | None) -> bool:
    """Whether a picture of explanations is of another part than the page is about."""
    return ("-val" in name.split("/")[1]) != (part == "val")


def maps_in_words(folder: str) -> str:
    """`grad_cam-val` in words: the method, the part, and whether the last weights were explained."""
    method, *more = folder.split("-")
    part = "validation part" if "val" in more else "test part"
    last = ", weights of the last epoch" if "last" in more else ""
    return f"{method.replace('_', ' ')}, {part}{last}"


def _explanations(facts: RunSummary) -> list[Block]:
    names = sorted(facts.kept.below(_EXPLANATIONS, ".png"), key=lambda name: (_is_other(name, facts.part), name))
    blocks: list[Block] = [*_evidence(facts)]
    for name in names[:_MOST]:
        folder, _, label = (
            PurePosixPath(name).with_suffix("").as_posix().removeprefix(f"{_EXPLANATIONS}/").partition("/")
        )
        blocks += picture(facts, name, f"Maps of evidence: {maps_in_words(folder)}, {label.replace('_', ' ')}")
    if len(names) > _MOST:
        blocks.append(Text(f"{counted(len(names) - _MOST, 'further picture')} lie in {_EXPLANATIONS}/ of the run."))
    return blocks


def _evidence(facts: RunSummary) -> list[Block]:
    """How much of the evidence lies inside the lesion, by method, as lesion-exp explain measured it."""
    rows: list[list[Cell]] = []
    for name, value in sorted(facts.run.metrics.items()):
        _, _, rest = name.partition("explanation/")
        folder, _, measure = rest.partition("/")
        if measure and not measure.endswith(("_low", "_high")):
            found = Value(value, facts.run.metrics.get(f"{name}_low"), facts.run.metrics.get(f"{name}_high"))
            words = _MEASURES.get(measure, measure.replace("_", " "))
            rows.append([maps_in_words(folder), words, number(value), interval(found)])
    columns = ["maps", "measure", ">value", ">95% interval"]
    return [Table("Where the evidence lies", columns, rows)] if rows else []


_SHOWN: Final = 20


def failures(facts: RunSummary) -> Section:
    """The section with failure cases."""
    title = "Failure cases"
    if facts.predictions is None:
        return Section("failures", title, [not_stored("predictions of the validation or the test part")])
    cases = worst(facts.predictions, _SHOWN)
    if not cases:
        return Section("failures", title, [Text("Every image was read rightly.")])
    rows: list[list[Cell]] = [
        [
            case["image_id"],
            case["label"],
            case["prediction"],
            number(case["probability"]),
            number(case["probability_of_label"]),
        ]
        for case in cases
    ]
    columns = ["image", "true", "predicted", ">probability", ">of the true class"]
    intro = Text("Wrong predictions that were made with the highest probability, the surest first.")
    blocks: list[Block] = [intro, *picture(facts, WRONG.format(part=facts.part), "The surest mistakes")]
    caption = f"The {counted(len(cases), 'surest mistake')}"
    return Section("failures", title, [*blocks, Table(caption, columns, rows)])

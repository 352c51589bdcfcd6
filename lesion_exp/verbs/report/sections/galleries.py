"""The sections with pictures: images as the network sees them, right and wrong predictions, saliency maps."""

from __future__ import annotations

import base64
import io
from pathlib import Path, PurePosixPath
from typing import Final

from PIL import Image

from lesion_exp.evaluation.failures import failures as worst
from lesion_exp.evaluation.predictions import has_labels_only
from lesion_exp.file_kind import FORMATS
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import Value, counted, interval, number
from lesion_exp.verbs.report.blocks import Block, Cell, Picture, Section, Table, Text, not_stored

WIDEST: Final = 1400
"""The largest width of a picture on a page, in pixels."""
_QUALITY: Final = 82


def picture_address(path: Path) -> str | None:
    """Returns a picture as a `data:` address, a JPEG file of at most 1400 pixels width; None if it cannot be read."""
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
    "centre_in_mask": "image centre inside the lesion",
    "share_inside": "saliency inside the lesion",
    "mask_share": "image area inside the lesion",
    "random_weights_correlation": "rank correlation with the maps of random weights",
}
"""The measures of lesion-exp explain, in its own words."""
_MOST: Final = 8
"""The largest number of saliency galleries on the page; the run has all of them."""


def galleries(facts: RunSummary) -> Section:
    """Returns the section with pictures."""
    chosen = {
        BATCH: "Images of the training part as the network sees them, augmented, with their classes",
        RIGHT.format(part=facts.part): "The right predictions of each class with the highest probabilities",
    }
    blocks: list[Block] = [block for name, words in chosen.items() for block in picture(facts, name, words)]
    if not blocks:
        why = "Its config has tracking.log_images=false." if _none_wanted(facts) else ""
        blocks = [not_stored("pictures of images", why)]
    return Section("galleries", "Galleries", [*blocks, *_explanations(facts)])


def picture(facts: RunSummary, name: str, caption: str) -> list[Block]:
    """Returns the picture that the run stores as `name`; nothing if there is none."""
    path = facts.kept.path(name)
    address = None if path is None else picture_address(path)
    return [Picture(address, caption, caption)] if address else []


def _none_wanted(facts: RunSummary) -> bool:
    return facts.key("tracking.log_images") is False


def _is_other(name: str, part: str | None) -> bool:
    """Whether a saliency gallery is of another part than that of the page."""
    return ("-val" in name.split("/")[1]) != (part == "val")


def maps_in_words(folder: str) -> str:
    """Returns the name of a folder such as `grad_cam-val` in words: the method, the part and the weights."""
    method, *more = folder.split("-")
    part = "validation part" if "val" in more else "test part"
    weights = ", weights of the last epoch" if "last" in more else ""
    weights = ", weights of another file" if "file" in more else weights
    return f"{method.replace('_', ' ')}, {part}{weights}"


def _explanations(facts: RunSummary) -> list[Block]:
    names = sorted(facts.kept.below(_EXPLANATIONS, ".png"), key=lambda name: (_is_other(name, facts.part), name))
    blocks: list[Block] = [*_measures(facts)]
    for name in names[:_MOST]:
        folder, _, label = (
            PurePosixPath(name).with_suffix("").as_posix().removeprefix(f"{_EXPLANATIONS}/").partition("/")
        )
        blocks += picture(facts, name, f"Saliency maps: {maps_in_words(folder)}, {label.replace('_', ' ')}")
    if len(names) > _MOST:
        blocks.append(Text(f"{counted(len(names) - _MOST, 'further picture')} in {_EXPLANATIONS}/ of the run."))
    return blocks


def _measures(facts: RunSummary) -> list[Block]:
    """The measures of saliency maps by method, as lesion-exp explain logged them."""
    rows: list[list[Cell]] = []
    for name, value in sorted(facts.run.metrics.items()):
        _, _, rest = name.partition("explanation/")
        folder, _, measure = rest.partition("/")
        if measure and not measure.endswith(("_low", "_high")):
            found = Value(value, facts.run.metrics.get(f"{name}_low"), facts.run.metrics.get(f"{name}_high"))
            words = _MEASURES.get(measure, measure.replace("_", " "))
            rows.append([maps_in_words(folder), words, number(value), interval(found)])
    columns = ["maps", "measure", ">value", ">95% interval"]
    return [Table("Saliency inside the lesion", columns, rows)] if rows else []


_SHOWN: Final = 20


def failures(facts: RunSummary) -> Section:
    """Returns the section with failure cases."""
    title = "Failure cases"
    if facts.predictions is None:
        return Section("failures", title, [not_stored("predictions of the validation or the test part")])
    cases = worst(facts.predictions, _SHOWN)
    if not cases:
        return Section("failures", title, [Text("Every prediction is right.")])
    rows: list[list[Cell]] = [[case["image_id"], case["label"], case["prediction"]] for case in cases]
    columns = ["image", "true", "predicted"]
    if has_labels_only(facts.predictions):
        num_wrong = int((facts.predictions["label"] != facts.predictions["prediction"]).sum())
        order = "in the order of the table of predictions"
        words = "The wrong predictions" if len(cases) == num_wrong else f"The first of {num_wrong:,} wrong predictions"
        caption = words
    else:
        for row, case in zip(rows, cases, strict=True):
            row += [number(case["probability"]), number(case["probability_of_label"])]
        columns += [">probability", ">probability of the true class"]
        order = "highest first"
        words = "The wrong predictions with the highest probabilities"
        caption = f"The {counted(len(cases), 'wrong prediction')} with the highest probabilities"
    blocks: list[Block] = [Text(f"{words}, {order}."), *picture(facts, WRONG.format(part=facts.part), words)]
    return Section("failures", title, [*blocks, Table(caption, columns, rows)])

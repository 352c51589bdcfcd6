"""Writes a run's network in another format and compares it with the original."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch
from torch import Tensor

from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.calibrator import Calibrator, read_calibrator
from lesion_exp.image_file import is_reduced
from lesion_exp.model.restore import Restored
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import READS_TAG
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.backfill import best_network
from lesion_exp.trained_runs.statements import calibration_warnings
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.verbs.export.check import Check, RealImages, check, drawn
from lesion_exp.verbs.export.file_format import FORMATS, Format, path_of
from lesion_exp.verbs.export.formats import Facts, facts_of, metadata_columns
from lesion_exp.verbs.export.network import ExportedNetwork, Photograph, other_inputs
from lesion_exp.verbs.export.program import Arrays
from lesion_exp.verbs.export.request import ExportRequest

log = logging.getLogger(__name__)


_ROUNDING: Final = (
    "Photographs whose short side exceeds that of stored images (dataset.store_size) are averaged down first. OpenCV "
    "does so in float32, so that an average between two grey levels may be rounded to the other one in the file: fewer "
    "than one in a thousand values. The bicubic and lanczos filters that follow give the same values, bilinear ones "
    "differ by one grey level in about one in a thousand."
)


def as_text(check: Mapping[str, Any]) -> str:
    """Returns a check (`Check.to_dict`) as a table, with its result."""
    size, accuracy, balanced = check["megabytes"], check["accuracy"], check["balanced_accuracy"]
    start = "image files" if check["preprocessing"] == "inside" else "normalised squares"
    rows = [
        ("", "original", check["kind"]),
        ("size, MB", *(f"{value:.1f}" for value in size)),
        ("accuracy", *(f"{value:.3f}" for value in accuracy)),
        ("balanced accuracy", *(f"{value:.3f}" for value in balanced)),
    ]
    for number, (before, after) in check["images_per_second"].items():
        rows.append((f"images/s, batch of {number}", f"{before:.0f}", f"{after:.0f} (x {after / before:.2f})"))
    lines = [f"| {name:<22} | {before:>10} | {after:>16} |" for name, before, after in rows]
    lines.insert(1, f"|{'-' * 24}|{'-' * 11}:|{'-' * 17}:|")
    return "\n".join(
        [
            *lines,
            "",
            f"preprocessing {check['preprocessing']}; {check['images']} images of the {check['part']} part: largest "
            f"difference of a probability {check['largest_difference']:.2g}, mean {check['mean_difference']:.2g}, the "
            f"same class in {100 * check['same_class']:.1f}%; speed from {start}, {check['threads']} thread(s)",
            *([_ROUNDING] if check["preprocessing"] == "inside" else []),
            "The original computes in float32 here, so its accuracy may differ from that of the run if the run was "
            "evaluated in bf16 or fp16.",
            f"FAILED: {check['failure']}" if check["failure"] else "passed",
        ]
    )


def as_markdown(run_id: str, checks: Iterable[Mapping[str, Any]]) -> str:
    """All checks of a run, as the text of its artifact."""
    parts = [f"# Exported files of run {run_id}, each compared with the original"]
    parts += [f"## {check['kind']}, preprocessing {check['preprocessing']}\n\n{as_text(check)}" for check in checks]
    return "\n\n".join(parts) + "\n"


_REDUCED_DECODING: Final = (
    "a JPEG file whose short side is at least 2, 4 or 8 times short_side is decoded at a half, a quarter or an eighth "
    "of its size, and then scaled to short_side"
)
CHECK_FILE = f"{artifacts.EXPORT_CHECK}.json"
_AT_ONCE = 32


@dataclass(frozen=True)
class Exported:
    """An exported file with its check."""

    run_id: str
    path: Path
    check: Check


def export(run: Run, request: ExportRequest, project: Project) -> Exported:
    """Writes the best network of `run` as `request` says, checks it on images, and stores the check with the run.

    Raises:
        ConfigError: the network or the format does not fit the request, or the file exists already.
        DataError: the run's data are missing or have changed.
    """
    form, path = FORMATS[request.kind], path_of(request)
    restored, content = best_network(run, project)
    card = _with_decoding(content["lesion_exp"], restored)
    others = other_inputs(restored)
    request.check_preparation(card["preprocessing"], others)
    restored.classifier.options = replace(restored.classifier.options, tta=request.tta)
    calibrator = _calibrator(card, request.calibration)
    table = trained_run(run, project, request.places).data().table
    part = "test" if READS_TAG in run.tags else "val"
    rows = drawn(table, part, request.check_images)
    if request.inside:
        _check_decoding(restored, rows)
    images = RealImages(restored, calibrator, rows, inside=request.inside)
    network = ExportedNetwork(restored, calibrator, _photograph(card) if request.inside else None).eval()
    warnings = calibration_warnings(run, request.calibration, request.tta)
    for text in warnings:
        log.warning("warning: %s", text)
    facts = {**facts_of(card, request, others, form.largest_batch), "warnings": warnings}
    extra = [_ranges(restored, table, request)] if request.kind == "onnx_int8" else []
    request.output.mkdir(parents=True, exist_ok=True)
    with _removed_if_interrupted(path):
        _write(form, network, _examples(network, card), path, facts, extra)
        size = _megabytes(sum(t.numel() * t.element_size() for t in restored.classifier.backbone.state_dict().values()))
        sizes = size, _megabytes(path.stat().st_size)
        found = check(images, form.open(path), request, part, sizes, form.largest_batch)
    _keep(run, found)
    return Exported(run.run_id, path, found)


def _with_decoding(card: Mapping[str, Any], restored: Restored) -> dict[str, Any]:
    """Returns the card of a network with the decoding of its images, if this is not the usual one."""
    if not restored.preparation.reduced:
        return dict(card)
    return {**card, "preprocessing": {**card["preprocessing"], "decoding": _REDUCED_DECODING}}


def _check_decoding(restored: Restored, rows: pd.DataFrame) -> None:
    """Checks that the images of `rows` are decoded at their full size, as a file that takes photographs expects.

    Raises:
        ConfigError: one is reduced while it is decoded.
    """
    prepared = restored.preparation
    if prepared.reduced and any(is_reduced(path, prepared.short_side) for path in rows["image_path"]):
        raise ConfigError(
            "expected preprocessing=outside for this network, got inside: it was trained with dataset.store_size=none, "
            "with which large JPEG files are reduced while they are decoded, and the file takes photographs that are "
            "decoded at their full size; set preprocessing=outside"
        )


@contextmanager
def _removed_if_interrupted(path: Path) -> Iterator[None]:
    """Removes the file if the block is interrupted, so that no unchecked file is left."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        path.unlink(missing_ok=True)
        facts_path(path).unlink(missing_ok=True)
        raise


def _write(form: Format, network: ExportedNetwork, examples: Any, path: Path, facts: Facts, extra: list[Any]) -> None:
    try:
        with Stage(f"writing {path.name}"):
            form.write(network, examples, path, facts, *extra)
    except Exception as error:  # exporters raise any error for a network that they cannot trace
        path.unlink(missing_ok=True)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"expected a network that can be written as {path.name}, got {type(error).__name__}: {reason}; "
            f"set another format="
        ) from error
    _write_facts(path, facts)


def _calibrator(card: Mapping[str, Any], method: str) -> Calibrator | None:
    if method == "none":
        return None
    if method not in card["calibration"]:
        raise DataError(f"expected the run to have the calibration {method}, found none; set calibration=none")
    return read_calibrator(card["calibration"][method])


def _photograph(card: Mapping[str, Any]) -> Photograph:
    prepared = card["preprocessing"]
    return Photograph(
        prepared["short_side"],
        prepared["image_size"],
        prepared["fit"],
        prepared.get("interpolation", "bilinear"),
        prepared.get("crop_share", 1.0),
    )


def _examples(network: ExportedNetwork, card: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Example inputs of the right types: two images, whose number and sizes set no limits."""
    side = card["preprocessing"]["image_size"]
    channels = network.backbone.in_channels
    if network.photograph is None:
        images = torch.zeros(2, channels, side, side)
    else:
        images = torch.zeros(2, 3 * side // 2, 2 * side, 3, dtype=torch.uint8)
    given = {"clinical": torch.zeros(2, 3, side, side)}
    if "metadata" in network.others:
        given["metadata"] = torch.zeros(2, len(metadata_columns(card)))
    return (images, *(given[name] for name in network.others))


def _ranges(restored: Restored, table: Any, request: ExportRequest) -> list[Arrays]:
    """Squares of the training part, from which int8 takes its ranges; never of a part on which results are reported."""
    images = RealImages(restored, None, drawn(table, "train", request.calibration_images), inside=False)
    places = range(len(images))
    return [images.inputs(places[begin : begin + _AT_ONCE]) for begin in range(0, len(images), _AT_ONCE)]


def facts_path(path: Path) -> Path:
    """Returns the path of the json beside an exported file, which describes its inputs and outputs."""
    return path.with_name(f"{path.name}.json")


def _write_facts(path: Path, facts: Facts) -> None:
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    facts_path(path).write_text(text, encoding="utf-8")


def _keep(run: Run, found: Check) -> None:
    """Adds the check to those that are stored with the run."""
    written = RunWriter.of(run)
    kept: dict[str, Any] = json.loads(written.read_text(CHECK_FILE) or "{}")
    kept[f"{found.kind}, {found.preprocessing}"] = found.to_dict()
    written.log_json(kept, CHECK_FILE)
    written.log_text(as_markdown(run.run_id, kept.values()), f"{artifacts.EXPORT_CHECK}.md")


def _megabytes(num_bytes: int) -> float:
    return num_bytes / 1e6

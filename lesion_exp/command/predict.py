"""The verb `predict`: a run's network applied to images that need no label."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.command.arguments import Arguments, check_store_keys, open_store_of
from lesion_exp.command.chosen_run import chosen_checkpoint, chosen_run
from lesion_exp.errors import ConfigError
from lesion_exp.taxonomy import RESEARCH_ONLY
from lesion_exp.terminal import say

if TYPE_CHECKING:
    from lesion_exp.verbs.predict.predict import Summary

_ACCELERATORS: Final = ("auto", "cpu", "gpu")
_TRUTH: Final = {"true": True, "false": False}


def predict(arguments: Arguments) -> int:
    """Writes the predictions to a file and its path to standard output, or one JSON object that sums them up; 1 where
    no image got one."""
    summary = predicted(arguments)
    print(json.dumps(summary.to_dict()) if arguments.json else summary.output)
    found = ", ".join(f"{count:,} {name}" for name, count in summary.predictions.items() if count)
    done = summary.images - summary.errors
    images = f"{done:,} image{'s' * (done != 1)} predicted"
    say(f"{images} in {summary.seconds:.1f} s{f': {found}' if found else ''}", sys.stderr)
    say(
        f"calibration: {summary.calibration}, precision: {summary.precision}, test-time augmentation: {summary.tta} "
        f"({summary.facts})",
        sys.stderr,
    )
    for text in summary.warnings:
        say(f"warning: {text}", sys.stderr)
    if summary.to_label:
        say(f"to label next: {summary.to_label}", sys.stderr)
    say(RESEARCH_ONLY, sys.stderr)
    if summary.errors == summary.images:
        say(f"lesion-exp: no image got a prediction; the first, {summary.first_error}", sys.stderr)
        return 1
    if summary.errors:
        say(f"without a prediction: {summary.errors:,}; the column error says why", sys.stderr)
    return 0


def predicted(arguments: Arguments) -> Summary:
    """What the predictions that the arguments ask for came to; they are in the file that it names."""
    spec = arguments.need("run", "latest")
    heat_maps = arguments.take("gradcam")
    options: dict[str, Any] = {
        "source": arguments.need("input", "FOLDER"),
        "output": Path(arguments.need("output", "predictions.csv")).expanduser(),
        "checkpoint": chosen_checkpoint(arguments, spec),
        "tta": arguments.take("tta"),
        "top": _number(arguments, "top") or 0,
        "rank": arguments.take("rank"),
        "heat_maps": None if heat_maps is None else Path(heat_maps),
        "columns": _columns(arguments),
        "batch_size": _number(arguments, "loader.batch_size"),
        "num_workers": _num_workers(arguments),
        "trainer": _trainer(arguments),
        "force": _TRUTH[arguments.choose("force", tuple(_TRUTH)) or "false"],
    }
    if calibration := arguments.take("calibration"):
        options["calibration"] = calibration
    count = _number(arguments, "count")
    if count is not None:
        if options["rank"] is None:
            raise ConfigError(f"expected rank= beside count={count}, got none; for example rank=entropy")
        options["count"] = count
    check_store_keys(arguments)
    from lesion_exp.verbs.predict.request import PredictionRequest

    request = PredictionRequest(**options)
    store, paths = open_store_of(arguments)
    from lesion_exp.verbs.predict.predict import predict as predict_images

    return predict_images(chosen_run(store, spec), request, paths)


def _columns(arguments: Arguments) -> dict[str, str]:
    text = arguments.take("columns")
    if text is None:
        return {}
    import yaml

    example = "columns='{image_path: file, site: localization}'"
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"expected names and columns, got columns={text}; for example {example}") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ConfigError(f"expected names and columns, got columns={text}; for example {example}")
    return found


def _trainer(arguments: Arguments) -> dict[str, Any]:
    found: dict[str, Any] = {}
    accelerator = arguments.choose("trainer.accelerator", _ACCELERATORS)
    if accelerator is not None:
        found["accelerator"] = accelerator
    precision = arguments.take("trainer.precision")
    if precision is not None:
        from lesion_exp.verbs.predict.request import PRECISIONS

        if precision not in PRECISIONS:
            raise ConfigError(f"expected trainer.precision to be one of {', '.join(PRECISIONS)}, got {precision!r}")
        found["precision"] = precision
    devices = arguments.take("trainer.devices")
    if devices is not None:
        listed = [part.strip() for part in devices.removeprefix("[").removesuffix("]").split(",")]
        if (devices != "auto" and not all(part.isdecimal() for part in listed)) or devices == "0":
            raise ConfigError(f"expected trainer.devices to be a number, a list such as [0,1] or auto, got {devices}")
        several = devices.startswith("[")
        found["devices"] = "auto" if devices == "auto" else list(map(int, listed)) if several else int(devices)
    return found


def _num_workers(arguments: Arguments) -> int | str:
    if "loader.num_workers=auto" in arguments.overrides:
        return str(arguments.take("loader.num_workers"))
    found = _number(arguments, "loader.num_workers", least=0)
    return "auto" if found is None else found


def _number(arguments: Arguments, key: str, least: int = 1) -> int | None:
    text = arguments.take(key)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"expected {key} to be a whole number of at least {least}, got {text!r}; for example {key}=4")
    return int(text)

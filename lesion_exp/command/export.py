"""The verb `export`: a run's network in another format, checked against the original."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lesion_exp.command.arguments import Arguments, check_store_keys, open_store_of
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.errors import ConfigError
from lesion_exp.taxonomy import RESEARCH_ONLY
from lesion_exp.terminal import say


def export(arguments: Arguments) -> int:
    """Shows the check on standard output: a table, or one JSON object; 1 where the file must not be used."""
    spec = arguments.need("run", "latest")
    options: dict[str, Any] = {
        "kind": arguments.need("format", "onnx"),
        "output": Path(arguments.need("output", "exported")).expanduser(),
    }
    options |= {key: value for key in ("preprocessing", "calibration", "tta") if (value := arguments.take(key))}
    if options["kind"] == "executorch":
        options.setdefault("preprocessing", "outside")
    for key in ("check_images", "calibration_images"):
        options |= _number(arguments, key, whole=True)
    for key in ("tolerance", "max_accuracy_lost"):
        options |= _number(arguments, key, whole=False)
    root, force = arguments.take("dataset.root"), arguments.take("force") or "false"
    if force not in ("true", "false"):
        raise ConfigError(f"expected force to be true or false, got {force!r}")
    check_store_keys(arguments)
    from lesion_exp.verbs.export.export import export as write
    from lesion_exp.verbs.export.export import facts_path
    from lesion_exp.verbs.export.report import as_text
    from lesion_exp.verbs.export.request import ExportRequest

    request = ExportRequest(**options, data_root=Path(root) if root else None, force=force == "true")
    store, paths = open_store_of(arguments)
    done = write(chosen_run(store, spec), request, paths)
    shown = {"run_id": done.run_id, "path": str(done.path), "check": done.check.to_dict()}
    if arguments.json:
        print(json.dumps(shown))
    else:
        say(as_text(done.check.to_dict()))
    say(f"written: {done.path}, and what it needs to be used: {facts_path(done.path)}", sys.stderr)
    say(RESEARCH_ONLY, sys.stderr)
    if done.check.failure:
        say(f"lesion-exp: the file is not what the original is: {done.check.failure}", sys.stderr)
        return 1
    return 0


def _number(arguments: Arguments, key: str, *, whole: bool) -> dict[str, Any]:
    text = arguments.take(key)
    if text is None:
        return {}
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if not (1 if whole else 0) <= value < float("inf"):
        kind = "a whole number of at least 1" if whole else "a number of at least 0"
        raise ConfigError(f"expected {key} to be {kind}, got {text!r}; for example {key}={200 if whole else 0.001}")
    return {key: value}

"""The verb `report`: a run or a sweep as one HTML page."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lesion_exp.command.arguments import Arguments, open_store_of
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.errors import ConfigError

if TYPE_CHECKING:
    from lesion_exp.tracking.find import Run
    from lesion_exp.verbs.report.page import Page

ARTIFACT: Final = "report.html"
_ENDINGS: Final = (".html", ".htm")


def report(arguments: Arguments) -> int:
    """Writes the page, keeps it with the run and shows its path on standard output, or one JSON object."""
    given = {key: value for key in ("run", "sweep") if (value := arguments.take(key))}
    if len(given) != 1:
        got = " and ".join(f"{key}={value}" for key, value in given.items()) or "neither"
        raise ConfigError(f"expected one of run=ID and sweep=ID, got {got}; for example run=latest")
    output = _output(arguments.take("output"))
    store, paths = open_store_of(arguments)
    if "run" in given:
        from lesion_exp.verbs.report.run_report import run_page

        run = chosen_run(store, given["run"])
        page = run_page(run)
    else:
        from lesion_exp.verbs.report.sweep_report import sweep_page
        from lesion_exp.verbs.report.swept import find_swept

        swept = find_swept(store, Path(paths["sweeps"]), given["sweep"])
        run, page = swept.parent, sweep_page(swept)
    path = _write(page, run, output)
    if arguments.json:
        print(json.dumps({"run_id": run.run_id, "path": str(path), "artifact": ARTIFACT, "bytes": path.stat().st_size}))
    else:
        print(path)
    return 0


def _output(text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text).expanduser().absolute()
    if path.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"expected output to end in .html, got {text}; for example output=report.html")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"expected a file in a folder that is there, got output={text}; make the folder first")
    return path


def _write(page: Page, run: Run, output: Path | None) -> Path:
    """Keeps the page with the run and writes it to `output`; where it can be opened. It names nobody and no machine."""
    from lesion_exp.privacy import published
    from lesion_exp.tracking.find import download_artifact
    from lesion_exp.tracking.run_writer import RunWriter
    from lesion_exp.verbs.report.page import render

    with tempfile.TemporaryDirectory(prefix="lesion_exp_report_") as folder:
        path = Path(folder) / ARTIFACT
        path.write_text(published(render(page), {run.tags.get("mlflow.user", "")}), encoding="utf-8")
        RunWriter.of(run).log_file(path, ARTIFACT)
        if output is not None:
            output.write_bytes(path.read_bytes())
    return output or download_artifact(run, ARTIFACT)

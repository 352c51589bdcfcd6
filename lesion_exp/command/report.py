"""The verb `report`: writes a run or a sweep as one HTML page."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lesion_exp.command.arguments import Arguments, open_project
from lesion_exp.command.chosen_run import RUN, RUN_NAMES, SWEEP, SWEEP_NAMES, chosen_run
from lesion_exp.errors import ConfigError, check_output
from lesion_exp.option import file, option

if TYPE_CHECKING:
    from lesion_exp.tracking.stored_run import Run
    from lesion_exp.verbs.report.page import Page

ARTIFACT: Final = "report.html"


@dataclass(frozen=True)
class ReportOptions:
    """The options of `report`."""

    run: str | None = option(None, RUN, RUN_NAMES)
    sweep: str | None = option(None, SWEEP, f"instead of a run: {SWEEP_NAMES}")
    output: Path | None = option(
        None,
        file("report.html", ".html", ".htm"),
        "file to write the page to; it is always stored with the run, as its artifact report.html",
    )


def report(arguments: Arguments) -> int:
    """Writes the page, stores it with the run and prints its path, or one JSON object."""
    wanted = arguments.read(ReportOptions)
    given = {key: value for key, value in (("run", wanted.run), ("sweep", wanted.sweep)) if value}
    if len(given) != 1:
        got = " and ".join(f"{key}={value}" for key, value in given.items()) or "neither"
        raise ConfigError(f"expected one of run=ID and sweep=ID, got {got}; for example run=latest")
    output = _output(wanted.output)
    if wanted.sweep is not None:
        arguments.named_sweeps.append(wanted.sweep)
    project = open_project(arguments)
    if "run" in given:
        run = chosen_run(project.store, given["run"])
        from lesion_exp.verbs.report.run_report import run_page

        page = run_page(run)
    else:
        from lesion_exp.sweeps.swept import find_swept

        swept = find_swept(project.store, project.sweeps, given["sweep"])
        from lesion_exp.verbs.report.sweep_report import sweep_page

        run, page = swept.parent, sweep_page(swept)
    path = _write(page, run, output)
    if arguments.json:
        print(json.dumps({"run_id": run.run_id, "path": str(path), "artifact": ARTIFACT, "bytes": path.stat().st_size}))
    else:
        print(path)
    return 0


def _output(output: Path | None) -> Path | None:
    if output is None:
        return None
    check_output(output)
    return output.absolute()


def _write(page: Page, run: Run, output: Path | None) -> Path:
    """Stores the page with the run, writes it to `output` if given, and returns the path of a file that can be opened.

    Names of users and machines are removed from the page.
    """
    from lesion_exp.privacy import anonymized
    from lesion_exp.tracking.run_writer import RunWriter
    from lesion_exp.tracking.stored_run import download_artifact
    from lesion_exp.verbs.report.page import render

    with tempfile.TemporaryDirectory(prefix="lesion_exp_report_") as folder:
        path = Path(folder) / ARTIFACT
        path.write_text(anonymized(render(page), {run.tags.get("mlflow.user", "")}), encoding="utf-8")
        RunWriter.of(run).log_file(path, ARTIFACT)
        if output is not None:
            output.write_bytes(path.read_bytes())
    return output or download_artifact(run, ARTIFACT)

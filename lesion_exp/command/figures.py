"""The verb `figures`: draws the figures of a run's evaluations again, for papers also as PDF and SVG."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lesion_exp.choices import FIGURE_FORMATS
from lesion_exp.command.arguments import Arguments, open_project
from lesion_exp.command.chosen_run import ChosenRun, chosen_run
from lesion_exp.errors import check_choice, check_output
from lesion_exp.option import Names, folder, option


@dataclass(frozen=True)
class FiguresOptions:
    """What is written, and where."""

    formats: tuple[str, ...] = option(
        ("pdf",), Names("A,B", "pdf,svg"), "formats of the files: pdf, svg (vector graphics) and png", key="format"
    )
    output: Path = option(
        Path("figures"), folder("figures"), "folder to write to; files of the same names are replaced"
    )


def figures(arguments: Arguments) -> int:
    """Prints the path of each figure, or one JSON object."""
    spec = arguments.read(ChosenRun).run
    wanted = arguments.read(FiguresOptions)
    for name in wanted.formats:
        check_choice("format", name, FIGURE_FORMATS)
    check_output(wanted.output, is_folder=True)
    project = open_project(arguments)
    run = chosen_run(project.store, spec)
    from lesion_exp.trained_runs.trained_run import trained_run
    from lesion_exp.verbs.figures.figures import draw_figures

    paths = draw_figures(trained_run(run, project), wanted.output, wanted.formats)
    if arguments.json:
        print(json.dumps({"run_id": run.run_id, "figures": [str(path) for path in paths]}))
    else:
        print(*paths, sep="\n")
    return 0

"""The verb `compare`: compares runs on the same images."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from lesion_exp.choices import BOOTSTRAP_UNITS, COMPARISON_FORMATS, EVALUATED_PARTS
from lesion_exp.command.arguments import Arguments, check_keys, compose_job
from lesion_exp.command.chosen_run import RUN, chosen_run
from lesion_exp.errors import ConfigError
from lesion_exp.option import choice, option
from lesion_exp.terminal import console, say

if TYPE_CHECKING:
    from lesion_exp.evaluation.intervals import Unit
    from lesion_exp.verbs.compare.compare import Compared

_READ_KEYS: Final = ("tracking.uri", "evaluation.bootstrap_draws", "evaluation.bootstrap_seed", "paths")


@dataclass(frozen=True)
class CompareOptions:
    """The options of `compare`."""

    against: str | None = option(None, RUN, "compare all others with this run; without it, every pair")
    part: str | None = option(
        None,
        choice(EVALUATED_PARTS),
        "part of the data; without it, test if every run has it, else val",
        key="split.part",
    )
    unit: str | None = option(
        None,
        choice(BOOTSTRAP_UNITS),
        "what intervals and tests take together; without it, patients if a run was evaluated over patients",
        key="evaluation.bootstrap_unit",
    )


@dataclass(frozen=True)
class ComparisonFormat:
    """How the comparison is written."""

    format: str = option(
        COMPARISON_FORMATS[0],
        choice(COMPARISON_FORMATS),
        "text for the terminal, or a table for a paper: markdown or latex (booktabs)",
    )


def compare(arguments: Arguments) -> int:
    """Shows the comparison on standard output: tables and conclusions, or one JSON object."""
    written = arguments.read(ComparisonFormat).format
    result = compared(arguments)
    if result is None:
        return 0
    from lesion_exp.verbs.compare.paper_table import paper_table
    from lesion_exp.verbs.compare.tables import show_report

    if arguments.json:
        print(json.dumps(result.report.to_dict() | {"run_id": result.run_id}))
    elif written != COMPARISON_FORMATS[0]:
        table = paper_table(result.report)
        print(table.latex() if written == "latex" else table.markdown(), end="")
    else:
        show_report(result.report, console(sys.stdout))
    say(f"comparison: run {result.run_id}\nfigure:     {result.figure}", sys.stderr)
    return 0


def compared(arguments: Arguments) -> Compared | None:
    """Returns the comparison that the arguments ask for; None after `--cfg job`."""
    arguments.names += arguments.take_runs()
    if not arguments.names:
        raise ConfigError("expected the runs to compare, got none; for example lesion-exp compare 3f2a91c0 latest")
    wanted = arguments.read(CompareOptions)
    check_keys(arguments, _READ_KEYS, "a comparison")
    arguments.show_tree = False
    arguments.named_runs += arguments.names
    job = compose_job(arguments)
    if job is None:
        return None
    evaluation = job.config["evaluation"]
    store = job.project.store
    run_ids = [chosen_run(store, name).run_id for name in arguments.names]
    against = chosen_run(store, wanted.against).run_id if wanted.against else None
    from lesion_exp.verbs.compare.compare import compare as compare_runs

    return compare_runs(
        store,
        run_ids,
        against=against,
        part=wanted.part,
        unit=cast("Unit | None", wanted.unit),
        draws=int(evaluation["bootstrap_draws"]),
        seed=int(evaluation["bootstrap_seed"]),
    )

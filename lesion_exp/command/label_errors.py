"""The verb `label-errors`: lists labels of a run's data that are probably wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lesion_exp.command.arguments import Arguments, open_project
from lesion_exp.command.chosen_run import ChosenRun, chosen_run
from lesion_exp.errors import check_output
from lesion_exp.option import REQUIRED, Number, choice, file, option
from lesion_exp.terminal import say

_PARTS: Final = {"val": ("val",), "test": ("test",), "both": ("val", "test")}


@dataclass(frozen=True)
class LabelErrorOptions:
    """The options of `label-errors` beside its run."""

    output: Path = option(
        REQUIRED,
        file("suspected.csv", ".csv"),
        "file to write, with row_id, image_id, label, suggested and score, the most certain errors first",
    )
    part: str = option("val", choice(tuple(_PARTS)), "part of the data whose stored predictions are searched")
    min_balanced_accuracy: float | None = option(
        None,
        Number(most=1, example="0.7"),
        "lowest balanced accuracy of a network that may be used; without it, two thirds of the way from guessing to 1",
    )


def label_errors(arguments: Arguments) -> int:
    """Writes the suspected labels to a csv and shows their number in each class, or one JSON object."""
    spec, wanted = arguments.read(ChosenRun).run, arguments.read(LabelErrorOptions)
    check_output(wanted.output.absolute().parent, is_folder=True)
    store = open_project(arguments).store
    run = chosen_run(store, spec)
    import pandas as pd

    from lesion_exp.evaluation.label_errors import check_strong_enough, errors_by_class
    from lesion_exp.evaluation.label_errors import label_errors as find
    from lesion_exp.text_table import write_csv
    from lesion_exp.tracking.stored_run import read_predictions

    table = pd.concat([read_predictions(run, one) for one in _PARTS[wanted.part]], ignore_index=True)
    balanced_accuracy = check_strong_enough(table, wanted.min_balanced_accuracy)
    found = find(table)
    output = wanted.output
    output.parent.mkdir(parents=True, exist_ok=True)
    write_csv(found, output)
    counts = errors_by_class(table, found)
    if arguments.json:
        summary: dict[str, Any] = {
            "run_id": run.run_id,
            "part": wanted.part,
            "images": len(table),
            "suspected": len(found),
        }
        summary |= {"balanced_accuracy": balanced_accuracy}
        print(json.dumps({**summary, "classes": counts, "output": str(output)}))
    else:
        for name, count in counts.items():
            others = ", ".join(f"{number:,} {other}" for other, number in count["suggested"].items())
            share = f"{count['suspected']:,} of {count['images']:,} labels suspected"
            say(f"{name:<12}{share}{f': suggested {others}' if others else ''}")
    say(
        f"{len(found):,} of {len(table):,} labels are suspected, according to a network with a balanced accuracy of "
        f"{balanced_accuracy:.3f}: {output}",
        sys.stderr,
    )
    return 0

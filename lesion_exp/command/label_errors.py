"""The verb `label-errors`: labels of a run's data that somebody should look at again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from lesion_exp.command.arguments import Arguments, open_store_of
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.errors import ConfigError, did_you_mean
from lesion_exp.terminal import say

_PARTS: Final = {"val": ("val",), "test": ("test",), "both": ("val", "test")}


def label_errors(arguments: Arguments) -> int:
    """Writes the suspected labels to a csv and shows how many there are of each class, or one JSON object."""
    spec = arguments.need("run", "latest")
    output = Path(arguments.need("output", "suspected.csv")).expanduser()
    if output.suffix.lower() != ".csv":
        raise ConfigError(f"expected output to end in .csv, got {output}")
    part = arguments.take("part") or "val"
    if part not in _PARTS:
        raise ConfigError(f"expected part to be {', '.join(_PARTS)}, got {part!r}{did_you_mean(part, _PARTS)}")
    least = _share(arguments, "min_balanced_accuracy")
    store, _ = open_store_of(arguments)
    import pandas as pd

    from lesion_exp.evaluation.label_errors import check_strong_enough, errors_by_class
    from lesion_exp.evaluation.label_errors import label_errors as find
    from lesion_exp.spreadsheet import write_csv
    from lesion_exp.tracking.find import read_predictions

    run = chosen_run(store, spec)
    table = pd.concat([read_predictions(run, one) for one in _PARTS[part]], ignore_index=True)
    balanced_accuracy = check_strong_enough(table, least)
    found = find(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_csv(found, output)
    counts = errors_by_class(table, found)
    if arguments.json:
        summary: dict[str, Any] = {"run_id": run.run_id, "part": part, "images": len(table), "suspected": len(found)}
        summary |= {"balanced_accuracy": balanced_accuracy}
        print(json.dumps({**summary, "classes": counts, "output": str(output)}))
    else:
        for name, count in counts.items():
            others = ", ".join(f"{number:,} {other}" for other, number in count["suggested"].items())
            share = f"{count['suspected']:,} of {count['images']:,} labels suspected"
            say(f"{name:<12}{share}{f': rather {others}' if others else ''}")
    say(
        f"{len(found):,} of {len(table):,} labels to look at again, by a network with a balanced accuracy of "
        f"{balanced_accuracy:.3f}: {output}",
        sys.stderr,
    )
    return 0


def _share(arguments: Arguments, key: str) -> float | None:
    text = arguments.take(key)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"expected {key} to be a number from 0 to 1, got {text!r}; for example {key}=0.5")
    return value

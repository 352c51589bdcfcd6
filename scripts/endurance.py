"""Endurance tests: nothing may fail, be lost or be doubled. Each takes minutes and prints a table, a row for each case.

    python scripts/endurance.py writers --times 5
    python scripts/endurance.py outage --seconds 60
    python scripts/endurance.py runs --runs 20
    python scripts/endurance.py sweep --kills 10
    python scripts/endurance.py kills --kills 300

`python scripts/endurance.py TRIAL --help` says what a trial does. Exit code 1: something was not as it should be.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from types import ModuleType

TRIALS = ("writers", "outage", "runs", "sweep", "kills")
"""Each lies in `endurance_<trial>.py` beside this file and has a docstring, `add_arguments` and `run`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trials = parser.add_subparsers(dest="trial", required=True, metavar="TRIAL")
    modules: dict[str, ModuleType] = {}
    for name in TRIALS:
        modules[name] = import_module(f"endurance_{name}")
        text = modules[name].__doc__ or ""
        trial = trials.add_parser(
            name, help=text.splitlines()[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        modules[name].add_arguments(trial)
    asked = parser.parse_args()
    result: int = modules[asked.trial].run(asked)
    return result


if __name__ == "__main__":
    sys.exit(main())

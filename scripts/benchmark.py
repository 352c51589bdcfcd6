"""Measures the speed of this package beside references that are measured alternately in the same call.

    python scripts/benchmark.py input
    python scripts/benchmark.py train --cases resnet18_112
    python scripts/benchmark.py sweep --cells 20

`python scripts/benchmark.py VERB --help` says what a verb measures; `--json` prints one JSON object on standard output.
Ratios of one call can be compared between machines; times of a machine with other work on it cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib import import_module
from types import ModuleType

VERBS = (
    "input",
    "train",
    "neighbour",
    "memory",
    "start",
    "sweep",
    "cells",
    "workers",
    "stores",
    "evaluate",
    "scale",
    "commands",
)
"""Each lies in `benchmark_<verb>.py` beside this file and has a docstring, `add_arguments` and `run`."""


def main() -> int:
    from lesion_exp.process.messages import show_messages

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    modules: dict[str, ModuleType] = {}
    for name in [name for name in VERBS if name in sys.argv[1:2]] or VERBS:  # each has seconds of imports
        modules[name] = import_module(f"benchmark_{name}")
        text = modules[name].__doc__ or ""
        verb = verbs.add_parser(
            name, help=text.splitlines()[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        modules[name].add_arguments(verb)
        verb.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args()
    show_messages()
    import torch

    machine = {"processor": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
    results = {"machine": machine, "torch": torch.__version__, **modules[asked.verb].run(asked)}
    if asked.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The verb `clean`: shows what a project keeps on its disk, and removes what it is asked to."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lesion_exp.byte_size import file_size
from lesion_exp.choices import CLEANED
from lesion_exp.command.arguments import Arguments, open_project
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.next_command import next_command
from lesion_exp.option import Names, option
from lesion_exp.terminal import say

if TYPE_CHECKING:
    from lesion_exp.verbs.clean import Entry


@dataclass(frozen=True)
class CleanOptions:
    """The options of `clean` that are not keys of the config."""

    remove: tuple[str, ...] = option(
        (),
        Names(example="caches"),
        "what to remove: caches (prepared images and features, which are made again), live (checkpoints left of "
        "deleted runs), sweeps (ledgers of sweeps without cells that are left); without it, nothing is removed",
    )


def clean(arguments: Arguments) -> int:
    """Prints what lies where, how large it is, and what may go, or one JSON object; removes what `remove=` names."""
    remove = arguments.read(CleanOptions).remove
    for word in remove:
        check_choice("remove", word, CLEANED)
    project = open_project(arguments)
    from lesion_exp.verbs.clean import clean as clean_project

    try:
        entries = clean_project(project, remove)
    except OSError as error:
        raise ConfigError(f"expected folders that can be listed, but {error}; look at their rights") from error
    if arguments.json:
        print(json.dumps({"root": str(project.root), "entries": [entry.to_dict() for entry in entries]}))
    else:
        for line in _lines(entries, project.root):
            say(line)
    for line in _summary(entries, remove):
        say(line, sys.stderr)
    return 0


def _lines(entries: list[Entry], root: Path) -> list[str]:
    """Two lines for each entry: its size and place, and below what it is and what may happen to it."""
    lines = []
    for entry in sorted(entries, key=lambda entry: -entry.bytes):
        path = Path(entry.path)
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        fate = "removed" if entry.removed else f"remove={entry.word}" if entry.word else "stays"
        lines += [f"{file_size(entry.bytes):>9}  {shown}", f"{'':9}  {entry.what}, {fate}: {entry.why}"]
    return lines


def _summary(entries: list[Entry], remove: tuple[str, ...]) -> list[str]:
    """What was removed, and the commands that remove more."""
    gone = [entry for entry in entries if entry.removed]
    lines = [f"removed: {len(gone)} entries, {file_size(sum(entry.bytes for entry in gone))}"] if remove else []
    for word in CLEANED:
        left = [entry for entry in entries if entry.word == word and not entry.removed]
        if left:
            command = next_command("clean", f"remove={word}")
            lines.append(f"{file_size(sum(entry.bytes for entry in left))} may go: {command}")
    return lines or ["nothing was removed, and nothing may go"]

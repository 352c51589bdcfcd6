"""Runs the commands whose output the pages show, and writes what they print into the pages.

    python scripts/worked_output.py                    # trains the demo three times, and smaller networks
    python scripts/worked_output.py --check            # writes nothing; ends with 1 and names the outputs that differ
    python scripts/worked_output.py plan machine       # only these projects: two that are not run unless they are named
    python scripts/worked_output.py demo --keep DIR    # leaves the project, with its runs, in DIR/demo

A comment before a block of a page says what the block is:

    <!-- output of: lesion-exp evaluate run=latest
    in: demo
    show: ^class
    show: ^mel
    -->

The command is also shown to the reader of the page. `in` names one of `PROJECTS`, a folder in which its commands are
run one after the other. Each `show` is a regular expression for lines, or two, `FIRST .. LAST`, for those from one line
to another. The other lines are left out, and `...` stands for them; without `show` all lines are shown. What differs
from run to run is replaced: ids of runs by those that the pages use, times and speeds by N. On one machine a second run
therefore changes nothing, except in the projects `plan` and `machine`, which measure it. Another machine may train
networks with other weights, and their results then differ.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from lesion_exp.dataset.synthetic import read_synthetic
from lesion_exp.terminal import wrapped

REPOSITORY: Final = Path(__file__).parents[1]
DOCUMENTS: Final = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
MARK: Final = "<!-- output of:"
BLOCK: Final = re.compile(
    r"^<!-- output of: (?P<command>[^\n]+)\nin: (?P<project>\w+)\n(?P<shown>(?:show: [^\n]+\n)*)-->\n\n"
    r"```text\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
WIDTH: Final = 120
"""Letters of a line of a page; longer lines are wrapped, as on a terminal."""
LEFT_OUT: Final = "..."
"""Stands for lines that are left out."""
KNOWN_IDS: Final = ("3f2a91c0", "91c07d12", "77de02b4")
"""How the ids of the first runs of a project begin on the pages."""
_ID: Final = re.compile(r"\b[0-9a-f]{32}\b")
_CLASSES: Final = {"mel": "melanoma", "nv": "nevus"}


@dataclass(frozen=True)
class Project:
    """A folder in which the commands of pages are run."""

    commands: tuple[str, ...]
    """In their order."""
    make: Callable[[Path], None] = lambda _: None
    """Writes the files that the reader has before the first command."""
    is_steady: bool = True
    """Whether a second run prints the same; others are run only if they are named."""


@dataclass(frozen=True)
class Block:
    """A marked block of a page."""

    document: Path
    command: str
    project: str
    shown: tuple[str, ...]
    body: str
    number: int
    """Its number on the page, from 0."""
    place: tuple[int, int]
    """Where the body begins and ends in the text of the page."""


def shown_id(number: int) -> str:
    """Returns the id that pages show of the run `number` of a project, counted from 0."""
    digits = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    return KNOWN_IDS[number] + digits[8:] if number < len(KNOWN_IDS) else digits


@dataclass
class Names:
    """The ids of the runs of a project, and what the pages call them."""

    known: dict[str, str] = field(default_factory=dict)

    def learn(self, text: str, folder: Path) -> None:
        """Gives each run that `text` names first a name of its own."""
        ids = {*_ID.findall(text), *(path.name for path in folder.glob("mlruns/artifacts/*/*"))}
        new = {one for one in ids if _ID.fullmatch(one) and one[:8] in text} - self.known.keys()
        for one in sorted(new, key=lambda one: text.index(one[:8])):
            self.known[one] = shown_id(len(self.known))

    def real(self, command: str) -> str:
        """Returns a command of a page with the ids that the runs have here."""
        for one, name in self.known.items():
            command = re.sub(rf"\b{name[:8]}\b", one, command)
        return command

    def shown(self, text: str) -> str:
        """Returns what a command prints with the ids that the pages use."""
        for one, name in self.known.items():
            text = text.replace(one, name).replace(one[:8], name[:8])
        return text


def blocks(document: Path) -> list[Block]:
    """Returns the marked blocks of a page.

    Raises:
        ValueError: a mark is not followed by a block.
    """
    text = document.read_text("utf-8")
    found = [
        Block(
            document,
            match["command"].strip(),
            match["project"],
            tuple(line.removeprefix("show: ") for line in match["shown"].splitlines()),
            match["body"],
            number,
            match.span("body"),
        )
        for number, match in enumerate(BLOCK.finditer(text))
    ]
    if len(found) != text.count(MARK):
        raise ValueError(
            f"expected at each of the {text.count(MARK)} marks of {document.name} the lines `{MARK} COMMAND`, "
            f"`in: PROJECT`, `show: EXPRESSION` and `-->`, an empty line and ```text, got {len(found)} of them; "
            f"correct the others"
        )
    return found


def chosen(text: str, shown: Sequence[str]) -> str:
    """Returns the lines of `text` that `shown` names, as a terminal wraps them, with `...` for those between them.

    Args:
        text: what a command prints.
        shown: regular expressions, or two of them, `FIRST .. LAST`, for the lines from one to the other; none for all.

    Raises:
        ValueError: no line contains one of the expressions.
    """
    lines = [line.rstrip() for line in wrapped(text, WIDTH).splitlines()]
    wanted = set().union(*(_named(lines, expression) for expression in shown)) if shown else set(range(len(lines)))
    found: list[str] = []
    skipped: list[str] = []
    for place, line in enumerate(lines):
        if place not in wanted:
            skipped.append(line)
            continue
        found += [*_gap(skipped), line]
        skipped = []
    return "\n".join([*found, *_gap(skipped)]).strip("\n") + "\n"


def _named(lines: Sequence[str], expression: str) -> set[int]:
    first, is_range, last = expression.partition(" .. ")
    found = [place for place, line in enumerate(lines) if re.search(first, line)]
    if is_range:
        ends = [place for place in range(found[0], len(lines)) if re.search(last, lines[place])] if found else []
        found = [*range(found[0], ends[0] + 1)] if ends else []
    if not found:
        whole = "\n".join(lines)
        raise ValueError(f"expected a line with {expression}, got none in:\n{whole}")
    return set(found)


def _gap(skipped: Sequence[str]) -> list[str]:
    return [LEFT_OUT] if any(skipped) else [""] * bool(skipped)


def without_paths(text: str, folder: Path) -> str:
    """Returns what a command printed in `folder`, with paths from there."""
    for path in {str(folder), str(folder.resolve())}:
        text = text.replace(f"{path}/", "").replace(path, ".")
    return text


def steady(text: str) -> str:
    """Returns what a command printed without what differs from run to run."""
    for expression, replacement in _UNSTEADY:
        text = re.sub(expression, replacement, text)
    return text


_UNSTEADY: Final = (
    (r"\b20\d{6}-\d{6}-[0-9a-f]{4}\b", "20260101-120000-1a2b"),  # the id of a sweep
    (r"\bstore_[0-9a-f]{16}\b", "store_N"),  # depends on the folder
    (r"\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?\b", "2026-01-01 12:00"),
    (r"(?m)^(epoch .*\)) .*$", r"\1"),  # speed and time, which short epochs have not
    (r"\b\d+ min \d+ s\b", "N s"),
    (r"\b\d+(\.\d+)? (s|min|h)\b", "N s"),
    (r"\b\d+\.\d\ds\b", "N s"),  # of pytest
    (r"(?m)^(cell .*\S) +time  run *\n─+", r"\1  time  run\n" + 75 * "─"),  # minutes make the column wider
    (r" +N s  ([0-9a-f]{8})\b", r"   N s  \1"),
    (r"\b[\d,]+(\.\d+)? (images a second|a second|images/s)", r"N \2"),
    (r"\b\d+(\.\d+)? (GB|GiB|MB|MiB)\b", r"N \2"),
    (r"(?m)^.*(: N s so far|: \d+ of \d+ steps).*\n", ""),  # shown by slow work alone
    (r"(?m)^[a-z ]+ [\d,]+ of [\d,]+ \w+(, N (a second|s each))?(, N s left)?\n", ""),
)
"""What is replaced, and by what."""


def outputs(name: str, folder: Path, only: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
    """Runs the commands of a project in `folder`, or `only` some of them; yields each with what it prints.

    Raises:
        RuntimeError: a command fails.
    """
    project, names = PROJECTS[name], Names()
    folder.mkdir(parents=True)
    project.make(folder)
    for command in project.commands:
        if only is not None and command not in only:
            continue
        print(f"{name}: {command}", file=sys.stderr, flush=True)
        done = subprocess.run(
            ["bash", "-c", names.real(command)],
            cwd=folder,
            env=_environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"expected the exit code 0 of `{command}`, got {done.returncode}:\n{done.stdout}")
        names.learn(done.stdout, folder)
        text = without_paths(names.shown(done.stdout), folder)
        yield command, steady(text) if project.is_steady else text


def _environment(folder: Path) -> dict[str, str]:
    """The variables of a reader who has set none of this software's, with one thread, so that weights are the same."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LESION_EXP_", "MLFLOW_")) and name not in {"PYTHONPATH", "COLUMNS"}
    }
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def bodies(wanted: Sequence[Block], keep: Path | None = None) -> dict[tuple[Path, int], str]:
    """Runs the commands of the blocks; returns what each block should contain, by its page and number.

    Args:
        wanted: marked blocks; of their projects all commands are run up to the last one that is wanted.
        keep: a folder in which the projects are left; None is a temporary one.

    Raises:
        ValueError: a block shows a path of this machine, or names a line that its command does not print.
    """
    found = {}
    for name in dict.fromkeys(block.project for block in wanted):
        of_project = [block for block in wanted if block.project == name]
        with tempfile.TemporaryDirectory(prefix="lesion_exp_output_") as temporary:
            folder = (keep.absolute() if keep else Path(temporary)) / name
            texts = dict(outputs(name, folder))
            for block in of_project:
                try:
                    body = chosen(texts[block.command], block.shown)
                except ValueError as error:
                    raise ValueError(f"{block.document.name}, `{block.command}`: {error}") from error
                for path in (str(folder.parent), tempfile.gettempdir(), str(REPOSITORY), str(Path.home())):
                    if path in body:
                        raise ValueError(
                            f"expected no path of this machine in {block.document.name}, got {path}:\n{body}"
                        )
                found[block.document, block.number] = body
    return found


def written(document: Path, made: Mapping[tuple[Path, int], str]) -> str:
    """Returns the text of a page with new bodies of its blocks; those that were not made stay."""
    text, done, pieces = document.read_text("utf-8"), 0, []
    for block in blocks(document):
        start, end = block.place
        pieces += [text[done:start], made.get((document, block.number), block.body)]
        done = end
    return "".join(pieces) + text[done:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks the chosen outputs; returns 0 if the pages have them now."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "projects",
        nargs="*",
        metavar="PROJECT",
        help=f"{', '.join(PROJECTS)}; without it, those that print the same each time",
    )
    parser.add_argument("--check", action="store_true", help="write nothing, and name what has changed")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder in which the projects stay")
    parsed = parser.parse_args(arguments)
    if unknown := [name for name in parsed.projects if name not in PROJECTS]:
        parser.error(f"expected names among {', '.join(PROJECTS)}, got {', '.join(unknown)}")
    names = parsed.projects or [name for name, project in PROJECTS.items() if project.is_steady]
    made = bodies([one for document in DOCUMENTS for one in blocks(document) if one.project in names], parsed.keep)
    code = 0
    for document in DOCUMENTS:
        changed = [one for one in blocks(document) if made.get((document, one.number), one.body) != one.body]
        for one in changed:
            print(f"{document.relative_to(REPOSITORY)}: {one.command}")
        if changed and parsed.check:
            code = 1
        elif changed:
            document.write_text(written(document, made), "utf-8")
    return code


@contextmanager
def _generated(**parameters: Any) -> Iterator[pd.DataFrame]:
    """The table of generated lesions, whose files are removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="lesion_exp_drawn_") as folder:
        yield read_synthetic(folder, **parameters)


def demo(root: Path) -> None:
    """Writes FOLDER, images without labels, one of which cannot be read, and the program of docs/mlflow.md."""
    _write_files_of("mlflow.md", root)
    (root / "FOLDER").mkdir()
    with _generated(num_lesions=20, drawing_seed=1) as table:
        for number, path in enumerate(table["image_path"][:9], 1):
            shutil.copy(path, root / "FOLDER" / f"{number:02d}.jpg")
    (root / "FOLDER" / "10.jpg").write_bytes(b"no image")


def class_folders(root: Path) -> None:
    """Writes DIR: a folder for each class, with names such as 017_2.jpg for the second photograph of a lesion."""
    for label, lesion, number, path in _photographs_of_lesions():
        target = root / "DIR" / label / f"{lesion:03d}_{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def own_code(root: Path) -> None:
    """Writes the files that docs/own_code.md shows, and DIR with names such as melanoma_017_b.png."""
    _write_files_of("own_code.md", root)
    (root / "DIR").mkdir()
    for label, lesion, number, path in _photographs_of_lesions():
        Image.open(path, formats=["JPEG"]).save(root / "DIR" / f"{label}_{lesion:03d}_{'abcdefgh'[number - 1]}.png")


def _write_files_of(page: str, root: Path) -> None:
    for match in _FILE.finditer((REPOSITORY / "docs" / page).read_text("utf-8")):
        (root / match["name"]).parent.mkdir(parents=True, exist_ok=True)
        (root / match["name"]).write_text(match["body"], "utf-8")


_FILE: Final = re.compile(
    r"^```(?:yaml|python)\n(?P<body># (?P<name>[\w/]+\.(?:yaml|py))\n.*?)^```$", re.DOTALL | re.MULTILINE
)
"""A block that shows a whole file, whose first line is a comment with its name."""


def _photographs_of_lesions() -> Iterator[tuple[str, int, int, str]]:
    """Class, number of the lesion, number of the photograph, and path of each generated image of two classes."""
    with _generated(num_lesions=60, class_shares={"mel": 1, "nv": 2}) as table:
        for lesion, (_, images) in enumerate(table.groupby("lesion_id"), 11):
            for number, (label, path) in enumerate(zip(images["label"], images["image_path"], strict=True), 1):
                yield _CLASSES[label], lesion, number, path


def parts_by_image(root: Path) -> None:
    """Writes parts.csv, which deals the images of `dataset=synthetic` without regard to their lesions."""
    table = read_synthetic(str(root / "data_cache" / "synthetic"))
    parts = np.random.default_rng(0).choice(["train", "val", "test"], len(table), p=[0.7, 0.15, 0.15])
    table[["image_id"]].assign(split=parts).to_csv(root / "parts.csv", index=False)


PROJECTS: Final = {
    "demo": Project(
        (
            "lesion-exp train experiment=demo",
            "lesion-exp evaluate run=latest",
            "lesion-exp predict run=latest input=FOLDER output=predictions.csv",
            "cut -d, -f1-4,10- predictions.csv",
            "lesion-exp explain run=latest method=grad_cam",
            "lesion-exp train experiment=demo loss=focal",
            "lesion-exp compare 3f2a91c0 91c07d12",
            "python list_runs.py",
            "lesion-exp reproduce run=3f2a91c0",
        ),
        demo,
    ),
    "images": Project(
        (
            r"""lesion-exp prepare dataset=folder dataset.root=DIR "dataset.lesion_pattern='([^/]+)_\d+$'" """.strip(),
            r"""lesion-exp train dataset=folder dataset.root=DIR "dataset.lesion_pattern='([^/]+)_\d+$'" """
            "image_size=64 trainer.max_epochs=2",
        ),
        class_folders,
    ),
    "own_code": Project(
        (
            "LESION_EXP_TRUST=my_package,my_losses PYTHONPATH=. python -m pytest -q test_my_package.py",
            "PYTHONPATH=. lesion-exp train --config-dir my_conf --trust my_package dataset=photos dataset.root=DIR "
            "backbone=mine loss=mine",
            "sed -i s/stride=2/stride=3/ my_package.py",
            "PYTHONPATH=. lesion-exp reproduce run=latest --check-only --trust my_package",
        ),
        own_code,
    ),
    "audit": Project(
        (
            "lesion-exp audit dataset=synthetic split=by_image",
            "lesion-exp audit dataset=synthetic split=file split.path=parts.csv",
        ),
        parts_by_image,
    ),
    "sweep": Project(
        (
            "lesion-exp train -m experiment=demo trainer.max_epochs=3 loss=cross_entropy,focal seed=1,2",
            "lesion-exp sweep status latest",
            "lesion-exp table sweep=latest rows=loss metric=val/balanced_accuracy,val/auroc_macro",
        )
    ),
    "plan": Project(("lesion-exp plan dataset=synthetic hours=4",), is_steady=False),
    "machine": Project(("lesion-exp doctor",), is_steady=False),
}
"""The projects in which the commands of the pages are run."""


if __name__ == "__main__":
    sys.exit(main())

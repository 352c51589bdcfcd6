"""The commands that documents show, and whether `lesion-exp` would accept them."""

import contextlib
import io
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from lesion_exp.cli import main
from lesion_exp.command.verbs import VERBS
from tests.own_process import restored

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "scripts").rglob("*.md")),
)
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE)
_NAMES = (
    (r"^plan$", "planned"),
    (r"^run\.zip$", "shared.zip"),
    (r"^experiment=NAME$", "experiment=demo"),
    (r"^dataset=NAME$", "dataset=ph2"),
    (r"^run=(ID|RUN|STACK|champion|3f2a\w*)$", "run=latest"),
    (r"^loss\.teacher=\w+$", "loss.teacher=latest"),
    (r"^backbone\.weights=run:\w+$", "backbone.weights=run:latest"),
)
"""What documents leave to their reader, and what stands for it here."""
_INLINE = re.compile(r"`(lesion-exp [a-z][^`\n]*)`")


@dataclass(frozen=True)
class Command:
    """A command of a document."""

    document: str
    words: tuple[str, ...]
    """After `lesion-exp`."""
    is_inline: bool = field(default=False, compare=False)

    def __str__(self):
        return f"{self.document}: {shlex.join(self.words)}"


def blocks(document, *languages):
    """The bodies of the fenced blocks in one of these languages."""
    text = document.read_text("utf-8")
    for match in _BLOCK.finditer(text):
        if match["language"] in languages:
            yield re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE)


def commands(document):
    """Every `lesion-exp` command of a document: the lines of its shell blocks, and those within its sentences."""
    name = document.relative_to(REPOSITORY).as_posix()
    for body in blocks(document, "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "lesion-exp" in words and "..." not in line and words[0] not in {"docker", "pip", "eval"}:
                yield Command(name, tuple(words[words.index("lesion-exp") + 1 :]))
    prose = _BLOCK.sub("", document.read_text("utf-8"))
    for text in _INLINE.findall(prose):
        words = shlex.split(text.replace(r"\|", "|"), comments=True)[1:]
        if not {"...", "|"} & set(words) and not any(word.endswith("...") or "..." in word for word in words):
            yield Command(name, tuple(words), is_inline=True)


def shown_files(document):
    """The files that a document shows whole: blocks whose first line is a comment with the file's path."""
    for body in blocks(document, "yaml", "python"):
        match = re.match(r"# ([\w/]+\.(?:yaml|py))\b", body)
        if match is not None:
            yield match[1], body


class WorkBegins(BaseException):
    """Raised where a verb has understood its command and begins with its work."""


def _begin(*_, **__):
    raise WorkBegins


def accepted(command):
    """Gives a command to `lesion-exp`, which ends where its verb would open the store or look at the data.

    Until there the verb, its flags and its options have to exist and to accept their values, and the config of the job,
    of a sweep each cell, has to compose. The current folder has to be a project with a run, and to hold `job.yaml`.

    Returns:
        Whether the verb began with its work; a verb that only prints ends without it.

    Raises:
        AssertionError: `lesion-exp` refused the command.
    """
    words = [command.words[0], *map(_filled, command.words[1:])]
    if command.is_inline and not any("=" in word for word in words[1:]) and words[1:2] != ["--help"]:
        assert words[0] in VERBS, f"{command}: no such verb"  # a sentence that names a verb without its arguments
        return False
    with (
        patch("lesion_exp.config.project.Project.opened", _begin),
        patch("lesion_exp.sweeps.plan.make_launcher"),  # this machine need not have the commands of SLURM
        patch("lesion_exp.verbs.leakage.plan.make_launcher"),
        patch("lesion_exp.config.places.check_places", _begin),
        patch("lesion_exp.sweeps.ledger.find_sweep", _begin),
        patch("lesion_exp.dataset.source_files.SourceFiles.__init__", _begin),
        restored(),
        contextlib.redirect_stdout(io.StringIO()) as shown,
        contextlib.redirect_stderr(shown),
    ):
        try:
            code = main(words)
        except WorkBegins:
            return True
    assert code == 0, f"{command}\n{shown.getvalue()}"
    return False


def _filled(word):
    """The word, with a name that exists where the document leaves the choice to its reader."""
    for shown, meant in _NAMES:
        word = re.sub(shown, meant, word)
    return word

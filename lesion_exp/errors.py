"""The exceptions that a user may see, and helpers for their messages.

Every message says what was expected, what arrived and what to do next.
"""

from __future__ import annotations

import difflib
import errno
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from lesion_exp.byte_size import file_size

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of the operating system for a full disk and for a user's quota that is used up."""


class UserError(ValueError):
    """A mistake in the command, the config, a path or the data. It is shown as one message, and the exit code is 2."""


class ConfigError(UserError):
    """A config key, value or group that cannot be used."""


class UntrustedError(ConfigError):
    """A config that names code of packages that the user does not trust."""

    packages: tuple[str, ...] = ()
    """The names of the packages."""


class MissingPicturesError(ConfigError):
    """A data set without the lesion masks or clinical photographs that a config asks for."""

    def __init__(self, expected: str, remedy: str = "") -> None:
        super().__init__(f"{expected}{remedy}")
        self.expected = expected
        """The message without its remedy, which is one for a network that is not trained yet."""


class DataError(UserError):
    """A data set that cannot be used as it is: missing or corrupt files, unknown labels, duplicate ids."""


class LeakageError(UserError):
    """A split in which patients, lesions or images of the training part occur in validation or test too."""


@contextmanager
def told_if_full(folder: Path, remedy: str) -> Iterator[None]:
    """Raises an error that names `folder` in place of the operating system's error about a full disk.

    The operating system names no file if the file was open already.

    Args:
        folder: an existing folder below which the block writes.
        remedy: what the user can do besides freeing room.

    Raises:
        ConfigError: the disk of `folder`, or the user's quota there, is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        free = shutil.disk_usage(folder).free
        raise ConfigError(
            f"expected room for files below {folder}, but {error.strerror}: {file_size(free)} are free there; free "
            f"some, or {remedy}"
        ) from error


def check_output(output: Path, *, is_folder: bool = False) -> None:
    """Checks before a command's work begins that its result can be written.

    Args:
        output: what the user gave as `output=`.
        is_folder: whether it is a folder, which is made with its parents if it does not exist.

    Raises:
        ConfigError: the folder of the file does not exist, or the file or folder, or the folder of
            a file that does not exist yet, may not be written to.
    """
    folder = output.absolute() if is_folder else output.absolute().parent
    if not is_folder and not folder.is_dir():
        raise ConfigError(f"expected a file in an existing folder, got output={output}; make the folder first")
    place = next(each for each in (folder, *folder.parents) if each.exists())
    if not place.is_dir():
        raise ConfigError(f"expected output to be in a folder, but {place} is a file; set another output=")
    written = output if output.exists() and not is_folder else place  # such as /dev/stdout, whose folder is read-only
    if not os.access(written, os.W_OK):
        raise ConfigError(f"expected an output that can be written, but {written} is read-only; set another output=")


def check_file(path: Path, what: str) -> None:
    """Checks that there is a file at `path`; `what` says for messages what it contains.

    Raises:
        DataError: there is no file at `path`.
    """
    if not path.is_file():
        found = "there is a folder" if path.is_dir() else "there is none"
        raise DataError(f"expected a file with {what}, but {found} at {path}; correct the path")


def is_full(error: BaseException) -> bool:
    """Returns whether `error` says that a disk, or the user's quota on it, is full."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def is_no_path(error: BaseException) -> bool:
    """Returns whether `error` says that a text cannot be a path here: it is too long, or begins with ~ and no user's
    name.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENAMETOOLONG
    return isinstance(error, RuntimeError) and str(error) == "Could not determine home directory."  # of pathlib


def not_installed(package: str, wanted_for: str) -> ConfigError:
    """Returns the error for an optional package that is missing; `wanted_for` says what needs it."""
    return ConfigError(
        f"expected the package {package} for {wanted_for}, but it is not installed; install it with: "
        f"{install_command(package)}"
    )


def install_command(*words: str) -> str:
    """Returns the command that installs packages into the environment of this Python.

    It is that of pip if the environment has it, else that of uv, which makes environments without pip.

    Args:
        words: packages, and options that both programs have.
    """
    python, wanted = shlex.quote(sys.executable), shlex.join(words)
    if PathFinder.find_spec("pip") is not None:
        return f"{python} -m pip install {wanted}"
    return f"uv pip install {wanted} --python {python}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a text with the known names that are similar to `name`, at most three, or with all if none is."""
    options = sorted(known)
    near = did_you_mean(name, options).removeprefix("; ")
    return near or ("known: " + ", ".join(options) if options else "none are known")


def did_you_mean(name: str, known: Iterable[str], count: int = 3, alike: float = 0.5) -> str:
    """Returns the end of a message that already lists the known names: `; did you mean 'x'?`, or an empty text.

    `alike` is the least similarity of the names, from 0 to 1.
    """
    matches = difflib.get_close_matches(name, sorted(known), n=count, cutoff=alike)
    return "; did you mean " + " or ".join(repr(match) for match in matches) + "?" if matches else ""


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Checks that `value`, which the user gave for the key `name`, is one of the `known` values.

    Raises:
        ConfigError: `value` is not among them.
    """
    options = list(known)
    if value not in options:
        raise ConfigError(
            f"expected {name} to be one of {', '.join(options)}, got {value!r}{did_you_mean(str(value), options)}"
        )


LONGEST_CASE: Final = 1000
"""Characters of a case that a message shows. A cell of a table may have a million."""
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters, which a terminal would execute, and the text that is shown for each."""


def first_cases(cases: Iterable[object], count: int = 5) -> str:
    """Returns a text with the first `count` cases, indented and one per line, and the number of further cases."""
    listed = [_shown(str(case)) for case in cases]
    lines = [f"  - {case}" for case in listed[:count]]
    if len(listed) > count:
        lines.append(f"  ... and {len(listed) - count} more")
    return "\n".join(lines)


def _shown(case: str) -> str:
    text = case.translate(_CONTROLS)
    return text if len(text) <= LONGEST_CASE else f"{text[:LONGEST_CASE]}... ({len(text):,} characters)"

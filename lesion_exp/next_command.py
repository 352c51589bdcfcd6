"""The commands that messages suggest, with the project, the store, the configs and the packages that the user named.

Without these words, `lesion-exp sweep resume latest` would look for the sweep in another project, or refuse its
packages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lesion_exp.privacy import without_secrets
from lesion_exp.terminal import shell_words

_repeated: tuple[str, ...] = ()


def repeat_in_commands(words: Sequence[str]) -> None:
    """Makes every command of `next_command` end with `words`, which the user typed, such as `paths.root=DIR`."""
    global _repeated
    _repeated = tuple(words)


@contextmanager
def own_repeated_words() -> Iterator[None]:
    """Within the block no words are repeated until `repeat_in_commands` is called; later they are as before."""
    before = _repeated
    repeat_in_commands(())
    try:
        yield
    finally:
        repeat_in_commands(before)


def next_command(*words: str) -> str:
    """Returns the command `lesion-exp WORDS` with the words of `repeat_in_commands`, as a line that a shell takes.

    A word whose key is among `words` is not repeated. User and password of a store are left out.
    """
    keys = {key_of(word) for word in words if "=" in word}
    repeated = [word for word in _repeated if key_of(word) not in keys]
    return without_secrets(shell_words(["lesion-exp", *words, *repeated]))


def key_of(override: str) -> str:
    """Returns the key of an override, such as `paths.root` of `paths.root=DIR`, without the `+` or `~` before it."""
    return override.lstrip("+~").partition("=")[0]


def key_and_value(override: str) -> tuple[str, str]:
    """Returns the key of an override and the text of its value, which is empty without one."""
    return key_of(override), override.partition("=")[2]

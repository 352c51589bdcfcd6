"""Streams that stand for a terminal, and what is to be seen on one."""

import io
import re


class Screen(io.StringIO):
    """A stream that says that it ends at a terminal."""

    def isatty(self):
        return True


def plain(text):
    """`text` without control sequences, as lines."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").split("\n")


def whole_words(lines):
    """The words of all lines."""
    return {word for line in lines for word in line.split()}

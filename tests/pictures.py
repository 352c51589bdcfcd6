"""Runs without pictures."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lesion_exp.tracking.run_writer import RunWriter


@contextmanager
def without_pictures() -> Iterator[None]:
    """Lets runs of this process log the words below each picture in its place.

    Drawing takes longer than all else that the runs of most tests do.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "log_figure", lambda self, _, path, about: self.log_text(about, path))
        yield

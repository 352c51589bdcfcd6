"""What is known of a data set from its publication."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's identity card: shown by `prepare`, logged with every run."""

    name: str
    title: str
    citation: str
    licence: str
    where: str
    """Where a user gets it: the project's page or DOI, and the names of the files to download."""
    archive: str | None = None
    """The archive that the ids of images, lesions and patients come from: sets of one archive have them in common."""
    published_counts: Mapping[str, int] = field(default_factory=dict)
    """Images a class as published, by the codes of `taxonomy`, with the reader's defaults; empty: none are."""
    published_for: Callable[..., Mapping[str, int]] | None = None
    """The published counts for other arguments of the reader, which it takes by name; None where they do not matter."""

    def counts_for(self, arguments: Mapping[str, object]) -> Mapping[str, int]:
        """Images a class as published, as the reader gives them with `arguments`; empty where none is published."""
        return self.published_counts if self.published_for is None else self.published_for(**arguments)

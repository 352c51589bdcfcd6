"""What is known of a data set from its publication."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Images a class as published, by the codes of `taxonomy`; empty where a set has no fixed counts."""

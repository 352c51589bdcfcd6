"""What a run keeps, read for a page that must not fail: what is absent or broken is None, and remembered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lesion_exp.tracking.find import Run, artifact_names, download_artifact


class RunArtifacts:
    """The artifacts of a run; `broken` says which of those that were asked for are there and cannot be read."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.names = frozenset(artifact_names(run))
        self.broken: dict[str, str] = {}

    def path(self, name: str) -> Path | None:
        """Where the artifact lies on this machine."""
        return download_artifact(self._run, name) if name in self.names else None

    def text(self, name: str) -> str | None:
        """A text (UTF-8)."""
        path = self.path(name)
        try:
            return None if path is None else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.broken[name] = str(error)
            return None

    def json(self, name: str) -> Any:
        """Whatever a JSON file holds."""
        text = self.text(name)
        try:
            return None if text is None else json.loads(text)
        except json.JSONDecodeError as error:
            self.broken[name] = str(error)
            return None

    def mapping(self, name: str) -> Mapping[str, Any]:
        """The object that a JSON file holds; empty where there is none."""
        found = self.json(name)
        return found if isinstance(found, dict) else {}

    def entries(self, name: str) -> list[Mapping[str, Any]]:
        """The list of objects that a JSON file holds; empty where there is none."""
        found = self.json(name)
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    def table(self, name: str) -> pd.DataFrame | None:
        """A table of a parquet file."""
        path = self.path(name)
        try:
            return None if path is None else pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are both
            self.broken[name] = str(error)
            return None

    def below(self, folder: str, ending: str = "") -> list[str]:
        """The names of all artifacts below `folder`, sorted."""
        return sorted(name for name in self.names if name.startswith(f"{folder}/") and name.endswith(ending))

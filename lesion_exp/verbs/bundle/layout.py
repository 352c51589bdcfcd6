"""The layout of a bundle: `bundle.json`, and for each run `run.json`, `metrics.jsonl` and its artifacts.

`bundle.json` contains the format, the runs in order, and every other member with its size and SHA-256. A run is
identified by its origin id, the id in the store where it was trained. A line of `metrics.jsonl` is `[metric, step,
milliseconds since 1970, value]`; a value that is not a JSON number is a text (`nan`, `inf`, `-inf`).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from lesion_exp.tracking import artifacts
from lesion_exp.tracking.stored_run import PARENT_TAG

FORMAT: Final = 1
MANIFEST: Final = "bundle.json"
RUN_FILE: Final = "run.json"
METRICS_FILE: Final = "metrics.jsonl"
ARTIFACTS: Final = "artifacts"
JOB_FILE: Final = artifacts.JOB
"""Of a run's artifacts."""

CONTENT_TAG: Final = "bundle_content"
"""Tag of an imported run with the digest of its members, by which another export of it is recognised."""
INCOMPLETE_TAG: Final = "bundle_incomplete"
"""Tag of a run whose import is not complete."""
LINK_TAGS: Final = (PARENT_TAG, "reproduces")
"""Tags with the id of another run; in a bundle they have its origin id."""
ENDED: Final = ("FINISHED", "FAILED", "KILLED")
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_LONGEST_NAME: Final = 1000


def member(run_id: str, *parts: str) -> str:
    """Returns the name of a run's member."""
    return "/".join(("runs", run_id, *parts))


def is_run_id(text: object) -> bool:
    """Returns whether `text` has the form of a run id of MLflow."""
    return isinstance(text, str) and _RUN_ID.fullmatch(text) is not None


def is_safe_name(name: str) -> bool:
    """Returns whether the name of a member belongs to a run, and its path is below the artifacts of the run."""
    parts = name.split("/")
    if len(name) > _LONGEST_NAME or len(parts) < 3 or parts[0] != "runs" or not is_run_id(parts[1]):
        return False
    if any(part in ("", ".", "..") or "\\" in part or ":" in part or not part.isprintable() for part in parts):
        return False
    return parts[2:] in ([RUN_FILE], [METRICS_FILE]) or (parts[2] == ARTIFACTS and len(parts) > 3)


def to_json(content: Any) -> bytes:
    """`content` as UTF-8 JSON, the same bytes for the same content."""
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def number(value: float) -> float | str:
    """`value` for a line of metrics; `float` reads both forms."""
    return value if math.isfinite(value) else str(value)

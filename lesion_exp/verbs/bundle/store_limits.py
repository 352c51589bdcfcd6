"""Checks before an import that MLflow accepts the content of a run, so that no incomplete run is left behind."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any, Final

from lesion_exp.errors import DataError
from lesion_exp.tracking.embedded import HEARTBEAT_TAG
from lesion_exp.tracking.find import ORIGIN_TAG
from lesion_exp.verbs.bundle import layout

_KEY: Final = re.compile(r"[/\w.\- :]+")
"""MLflow's rule for the names of parameters, tags and metrics."""
_LONGEST_KEY: Final = 250
_LONGEST: Final[Mapping[str, int]] = {"params": 6000, "tags": 8000, "links": 250}
"""Largest number of characters of a value."""
_INPUT: Final[Mapping[str, int]] = {
    "name": 500, "digest": 36, "source_type": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215,
}  # fmt: skip
_LONGEST_INPUT_TAG: Final = (255, 500)
_OWN_TAGS: Final = frozenset({HEARTBEAT_TAG, ORIGIN_TAG, layout.CONTENT_TAG, *layout.LINK_TAGS})
"""Tags that an import writes itself, and an export leaves out."""


def check_run(described: Mapping[str, Any], where: str) -> None:
    """Checks that a store accepts the run that `run.json` describes; `where` names the file in messages.

    Raises:
        DataError: the store would refuse a name, a text or an input.
    """
    _check_text(described["name"], 250, f"the name in {where}")
    _check_text(described["experiment"], 500, f"the experiment in {where}")
    if not described["name"].strip() or not described["experiment"].strip():
        raise DataError(
            f"expected names of the run and its experiment in {where}, got an empty one; export it once more"
        )
    for group, longest in _LONGEST.items():
        for name, text in described[group].items():
            check_key(name, f"{group} of {where}")
            _check_text(text, longest, f"{name} among the {group} of {where}")
    if own := sorted(_OWN_TAGS & set(described["tags"])):
        raise DataError(f"expected tags as an export writes them in {where}, got {own[0]}; export the run once more")
    for entry in described["inputs"]:
        for key, longest in _INPUT.items():
            if entry.get(key) is not None:
                _check_text(entry[key], longest, f"{key} of an input in {where}")
        tags = entry.get("tags") or {}
        if not isinstance(tags, dict):
            raise DataError(f"expected an object as tags of an input in {where}, got {type(tags).__name__}")
        for pair in tags.items():
            for text, longest in zip(pair, _LONGEST_INPUT_TAG, strict=True):
                _check_text(text, longest, f"the tags of an input in {where}")


def check_key(name: object, where: str) -> None:
    """Checks that MLflow accepts the name of a parameter, a tag or a metric.

    Raises:
        DataError: it does not.
    """
    is_key = isinstance(name, str) and len(name) <= _LONGEST_KEY and _KEY.fullmatch(name) is not None
    if not is_key or posixpath.normpath(str(name)) != name or name == "." or str(name).startswith(("..", "/")):
        raise DataError(
            f"expected names of at most {_LONGEST_KEY} letters, digits and signs of _-./: among the {where}, got "
            f"{str(name)[:80]!r}; export the run once more"
        )


def _check_text(text: object, longest: int, where: str) -> None:
    if isinstance(text, str) and len(text) <= longest and "\0" not in text and _is_unicode(text):
        return
    got = f"{len(text):,} characters, or some that are no text" if isinstance(text, str) else type(text).__name__
    raise DataError(
        f"expected a text of at most {longest:,} characters as {where}, got {got}; export the run once more"
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates, which JSON can hold
        return False
    return True

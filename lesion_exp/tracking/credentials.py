"""User and password of a store: never written down, and taken from the environment where a store is opened.

A job, a spool and a ledger hold the address of their store without them. This process and those that it starts know the
whole address from a variable; a later command, or another machine, finds it in MLFLOW_TRACKING_URI, which has to name
the same store, or for a server in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.
"""

from __future__ import annotations

import os
from typing import Final

from lesion_exp.privacy import without_secrets

URI_VARIABLE: Final = "MLFLOW_TRACKING_URI"
KNOWN_VARIABLE: Final = "LESION_EXP_STORE_URIS"
"""Whole addresses, one a line, for this process and its children alone."""


def address(uri: str) -> str:
    """`uri` as it may be written down; processes that this one starts can still open the store."""
    plain = without_secrets(uri)
    if plain != uri and uri not in _known():
        os.environ[KNOWN_VARIABLE] = "\n".join([*_known(), uri])
    return plain


def with_credentials(uri: str) -> str:
    """The whole address of the store at `uri`, where the environment knows it; else `uri` as it is."""
    if without_secrets(uri) != uri:
        return uri
    known = [*_known()[::-1], os.environ.get(URI_VARIABLE, "")]
    return next((whole for whole in known if whole and without_secrets(whole).rstrip("/") == uri.rstrip("/")), uri)


def _known() -> list[str]:
    return os.environ.get(KNOWN_VARIABLE, "").splitlines()

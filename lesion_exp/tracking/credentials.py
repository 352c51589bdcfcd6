"""User and password of a store, which are never written to a file.

Jobs, spools and ledgers contain the address of their store without them. An environment variable passes the whole
address to child processes. A later command, or another machine, needs it in MLFLOW_TRACKING_URI, which has to name the
same store, or for a server user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token in
MLFLOW_TRACKING_TOKEN.
"""

from __future__ import annotations

import os
from typing import Final

from lesion_exp.privacy import without_secrets

URI_VARIABLE: Final = "MLFLOW_TRACKING_URI"
KNOWN_VARIABLE: Final = "LESION_EXP_STORE_URIS"
"""Whole addresses, one per line, for this process and its children."""


def address(uri: str) -> str:
    """`uri` without user and password; child processes can still open the store (see the module)."""
    plain = without_secrets(uri)
    if plain != uri and uri not in _known():
        os.environ[KNOWN_VARIABLE] = "\n".join([*_known(), uri])
    return plain


def with_credentials(uri: str) -> str:
    """The whole address of the store at `uri` if the environment has it, else `uri` unchanged."""
    if without_secrets(uri) != uri:
        return uri
    known = [*_known()[::-1], os.environ.get(URI_VARIABLE, "")]
    return next((whole for whole in known if whole and without_secrets(whole).rstrip("/") == uri.rstrip("/")), uri)


def _known() -> list[str]:
    return os.environ.get(KNOWN_VARIABLE, "").splitlines()

"""Removes secrets from everything that is stored, and names from everything that is made to be shared.

Everything that this package stores (parameters, tags, texts, logs, ledgers of sweeps) passes through `redacted`: it
holds no password and no token. Everything that is made to be shared (bundles, reports) passes through `anonymized`: it
also holds no person's name, no machine's name and no home folder.

User and password of a store are never written to a file. Jobs, spools and ledgers contain the address of their store
without them. An environment variable passes the whole address to child processes. A later command, or another machine,
needs it in MLFLOW_TRACKING_URI, which has to name the same store, or for a server user and password in
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token in MLFLOW_TRACKING_TOKEN.
"""

from __future__ import annotations

import functools
import getpass
import os
import re
import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

Value = TypeVar("Value")
HIDDEN: Final = "***"
SHORTEST_SECRET: Final = 6
"""Characters. A shorter value of an environment variable counts as a word, not as a secret."""
_SECRET_WORDS: Final = frozenset(
    {
        "PASS", "PASSWORD", "PASSWORDS", "PASSWD", "PASSPHRASE", "PW", "PWD", "SECRET", "SECRETS", "TOKEN", "TOKENS",
        "KEY", "KEYS", "APIKEY", "CREDENTIAL", "CREDENTIALS", "AUTH", "COOKIE", "PAT", "DSN",
    }
)  # fmt: skip
_SECRET_ENDS: Final = ("PASSWORD", "PASSWD", "TOKEN", "SECRET", "APIKEY")
_NO_SECRETS: Final = frozenset({"PWD", "OLDPWD"})
_PLAIN_VALUE: Final = re.compile(r"(?i)true|false|none|null|default|[\d.]+")
_CREDENTIALS: Final = re.compile(r"(?<=://)[^\s'\"<>/?#\\]*@")
"""User and password in a URI, up to the last @ before its path."""
_DATABASE_CREDENTIALS: Final = re.compile(r"((?:postgresql|mysql|mssql)(?:\+\w+)?://)[^\s'\"<>]*@")
"""User and password in the URI of a database, where the password may contain a slash."""
_QUERY: Final = re.compile(
    r"(?i)([?&](?!viewStateShareKey=)(?:user|username|uid|\w*password|passwd|pwd|\w*token|\w*secret|\w*key)=)[^&\s'\"]+"
)
_ANY_HOME: Final = re.compile(r"(?<![\w.-])(?:[A-Za-z]:)?[/\\]{1,2}(?:home|Users)[/\\]{1,2}[^/\\\s'\",:;)\]}<>]+")
_SHORT_HOME: Final = re.compile(r"(?<![\w.~-])~(?=/|$|['\",;:)\]}])")
"""A `~` that stands for the home folder, and not for an operator, as in `~(age > 60)`."""
_EMBEDDED_IMAGE: Final = re.compile(r"(data:[\w/+.-]+;base64,[A-Za-z0-9+/=]*)")
_NOBODY: Final = frozenset(
    {"root", "user", "users", "admin", "ubuntu", "unknown", "runner", "nobody", "home", "localhost", "local", "host"}
)
"""Names that many machines and users share; they identify nobody."""
_SHORTEST_NAME: Final = 3
_LONG_NAME: Final = 8
_ABSOLUTE_PATH: Final = re.compile(r"(?<![\w.*/\\-])(?:~|[A-Za-z]:)?(?:[/\\]+[^\s'\"<>,;:)\]}/\\]+)+")
URI_VARIABLE: Final = "MLFLOW_TRACKING_URI"
KNOWN_VARIABLE: Final = "LESION_EXP_STORE_URIS"
"""Whole addresses, one per line, for this process and its children."""


def without_secrets(value: Value) -> Value:
    """Returns `value` without the user and password of any URI and without the values of secret environment variables.

    An environment variable is secret if its name contains a word such as PASSWORD, TOKEN, SECRET or KEY
    (`DB_PASSWORD`, `HF_TOKEN`).

    Args:
        value: a text, or a dictionary, list or tuple of texts and other values, nested to any depth.
    """
    variables = tuple((name, text) for name, text in sorted(os.environ.items()) if _may_be_secret(name, text))
    secrets = _secret_values(variables)

    def change(text: str) -> str:
        text = _CREDENTIALS.sub("", _DATABASE_CREDENTIALS.sub(r"\1", text))
        text = _QUERY.sub(rf"\1{HIDDEN}", text)
        return secrets.sub(HIDDEN, text) if secrets is not None else text

    return _in_texts(value, change)  # type: ignore[no-any-return]


def redacted(value: Value) -> Value:
    """Returns `value` as it may be stored: `without_secrets`, and with `~` for the home folder."""
    return _in_texts(without_secrets(value), _with_short_home)  # type: ignore[no-any-return]


def with_home(value: Value) -> Value:
    """Returns `value`, which `redacted` returned, with the home folder of this user in the place of `~`."""
    home = _home() or "~"
    return _in_texts(value, lambda text: _SHORT_HOME.sub(lambda _: home, text))  # type: ignore[no-any-return]


def anonymized(value: Value, people: Collection[str] = ()) -> Value:
    """Returns `value` as it may be shared: `redacted`, and without home folders, user names and names of machines.

    A name that could also be an ordinary word is removed from paths and next to an @ only.

    Args:
        value: as for `without_secrets`.
        people: further names to remove, such as the user who trained a run.
    """
    names = sorted({*people, *_own_names()}, key=len, reverse=True)
    names = [name for name in names if len(name) >= _SHORTEST_NAME and name.lower() not in _NOBODY]

    def change(text: str) -> str:
        parts = _EMBEDDED_IMAGE.split(text)  # the bytes of an embedded image are not text
        return "".join(part if number % 2 else _without_names(part, names) for number, part in enumerate(parts))

    return _in_texts(redacted(value), change)  # type: ignore[no-any-return]


def _without_names(text: str, names: Sequence[str]) -> str:
    text = _ANY_HOME.sub("~", text)
    for name in names:
        word = rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
        if len(name) >= _LONG_NAME or not name.isalpha():
            text = re.sub(word, HIDDEN, text)
        else:
            text = _ABSOLUTE_PATH.sub(lambda path, word=word: re.sub(word, HIDDEN, path[0]), text)  # type: ignore[misc]
            text = re.sub(rf"{word}(?=@)|(?<=@){word}", HIDDEN, text)
    return text


def _in_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_in_texts(key, change): _in_texts(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_in_texts(inner, change) for inner in value)
    return value


def _with_short_home(text: str) -> str:
    home = _home()
    if home is None:
        return text
    return re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w.-])", "~", text)


def _home() -> str | None:
    """Returns the home folder without a slash at its end; None if it is the root of the file system."""
    home = os.environ.get("HOME", "").rstrip("/") or str(Path.home())
    return None if home in ("", "/") else home


def _own_names() -> set[str]:
    names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    names |= {os.environ[name] for name in ("USER", "LOGNAME", "USERNAME", "HOSTNAME") if os.environ.get(name)}
    try:
        names.add(getpass.getuser())
    except (KeyError, OSError):  # a container without an entry for this user
        return names
    return names


def _may_be_secret(name: str, text: str) -> bool:
    if name in _NO_SECRETS:
        return False
    upper = name.upper()
    return upper.endswith(_SECRET_ENDS) or not _SECRET_WORDS.isdisjoint(upper.split("_")) or "://" in text


@functools.lru_cache(maxsize=8)
def _secret_values(variables: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    """Returns a pattern that matches every secret among `variables`: their values, or the password if the value is a
    URI.
    """
    found: set[str] = set()
    for _, value in variables:
        if "://" in value:
            for line in value.splitlines():
                login = line.partition("://")[2].rpartition("@")[0]
                found.add(login.partition(":")[2])
        else:
            found.add(value.strip())
    real = [
        value
        for value in found
        if len(value) >= SHORTEST_SECRET and not _PLAIN_VALUE.fullmatch(value) and not Path(value[:200]).exists()
    ]
    return re.compile("|".join(re.escape(value) for value in sorted(real, key=len, reverse=True))) if real else None


def address(uri: str) -> str:
    """Returns `uri` without user and password. Child processes can still open the store (see the module)."""
    plain = without_secrets(uri)
    if plain != uri and uri not in _known():
        os.environ[KNOWN_VARIABLE] = "\n".join([*_known(), uri])
    return plain


def with_credentials(uri: str) -> str:
    """Returns the whole address of the store at `uri` if the environment has it, else `uri` unchanged."""
    if without_secrets(uri) != uri:
        return uri
    known = [*_known()[::-1], os.environ.get(URI_VARIABLE, "")]
    return next((whole for whole in known if whole and without_secrets(whole).rstrip("/") == uri.rstrip("/")), uri)


def _known() -> list[str]:
    return os.environ.get(KNOWN_VARIABLE, "").splitlines()

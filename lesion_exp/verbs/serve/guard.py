"""The outermost layer of the application: it checks host, origin and key, adds security headers, counts and logs."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lesion_exp.verbs.serve.monitoring import Monitoring
from lesion_exp.verbs.serve.settings import Settings, host_of, is_loopback

log = logging.getLogger(__name__)

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
KEY_HEADER: Final = "X-API-Key"
_BEARER: Final = "bearer "
_FOREIGN: Final = ("cross-site", "same-site")
"""Values of `Sec-Fetch-Site` for a page of another server, which may be another port of this machine."""
_PORTS: Final = {"http": ":80", "https": ":443"}
_READING: Final = ("GET", "HEAD", "OPTIONS")
HEADER_BYTES: Final = 16_384
"""Largest size of the address and the headers of a request."""
_ASKED_OFTEN: Final = ("/health", "/metrics")
"""Paths that monitoring systems ask for every few seconds."""
_ABORTED: Final = 499
"""Status in log and counters if the client disconnected before its answer."""


class Guard:
    """The outermost layer of the application.

    Args:
        app: the application that answers.
        monitoring: counts the requests.
        open_paths: paths that need no key.
        closed_paths: paths that need the key if there is one. All other paths do not exist and are counted together.
        settings: the key, and the host names by which clients may call the server. They are checked because a page of
            another site can make its own name lead to this machine (DNS rebinding).
    """

    def __init__(
        self,
        app: ASGIApp,
        monitoring: Monitoring,
        open_paths: Collection[str],
        closed_paths: Collection[str],
        settings: Settings,
    ) -> None:
        self.app = app
        self.monitoring = monitoring
        self.open_paths = frozenset(open_paths)
        self.closed_paths = frozenset(closed_paths)
        self.settings = settings
        self.api_key = None if settings.api_key is None else settings.api_key.encode()
        self.hosts = frozenset(name.lower() for name in settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), _ABORTED

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (self._refusal(scope) or self.app)(scope, receive, send_guarded)
        finally:
            self._note(scope, status, time.monotonic() - began)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return _problem(431, f"expected an address and headers of at most {HEADER_BYTES:,} bytes, got more")
        if not self._is_known(headers.get("host", ""), scope):
            return _problem(
                403,
                "expected a host name of this server (localhost, that of host=, or one of allowed_hosts=), got another "
                "one in the header Host; start the server with allowed_hosts=NAME to add it",
            )
        if self._is_foreign(headers, scope["method"]):
            return _problem(403, "expected a request from this server's own page, got one from a page of another site")
        if self.api_key is None or scope["path"] not in self.closed_paths or self._has_key(headers):
            return None
        error = (
            f"expected the server's key in the header {KEY_HEADER} (or Authorization: Bearer KEY), got none or another"
        )
        return _problem(401, error, {"WWW-Authenticate": "Bearer"})

    def _is_known(self, authority: str, scope: Scope) -> bool:
        """Whether a client may call the server by the host name `authority`, with or without a port."""
        host = host_of(authority)
        if host is None:
            return False
        own = (scope.get("server") or ("",))[0] if self.settings.is_everywhere else self.settings.host
        return is_loopback(host) or host == str(own).lower() or host in self.hosts

    def _is_foreign(self, headers: Headers, method: str) -> bool:
        """Whether a browser reports a page of another site as the origin; other clients report none."""
        if method not in _READING and headers.get("sec-fetch-site") in _FOREIGN:
            return True
        origin = headers.get("origin")
        if origin is None:
            return False
        scheme, _, authority = origin.lower().partition("://")
        if scheme not in _PORTS:
            return True
        given = headers["host"].strip().lower()
        if authority == given or _PORTS[scheme] in {authority.removeprefix(given), given.removeprefix(authority)}:
            return False
        return host_of(authority) not in self.hosts  # a proxy may call the server by another name

    def _has_key(self, headers: Headers) -> bool:
        assert self.api_key is not None
        given = headers.get(KEY_HEADER, "")
        authorization = headers.get("authorization", "")
        if not given and authorization.lower().startswith(_BEARER):
            given = authorization[len(_BEARER) :].strip()
        return hmac.compare_digest(given.encode("latin-1", "replace"), self.api_key)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"]
        known = path in self.open_paths or path in self.closed_paths
        route = path if known else "other"  # nothing that a client wrote in labels and log lines
        self.monitoring.requests.labels(route, str(status)).inc()
        self.monitoring.request_seconds.labels(route).observe(seconds)
        level = logging.DEBUG if path in _ASKED_OFTEN else logging.INFO
        log.log(level, "%s %s %d %.0f ms", scope["method"] if known else "-", route, status, 1000 * seconds)


def _problem(status: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": error}, status, headers)

"""HTTP connections that cannot be held open by sending nothing, or by sending on for ever."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_SECONDS: Final = 10.0
"""For a request's headers to arrive, and for the rest of a body that was refused."""
MOST_CONNECTIONS: Final = 512
"""At once: file handles are few."""
_TOO_MANY: Final = b'{"error":"expected fewer connections at once; try again soon"}'
_REFUSED: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: " + str(len(_TOO_MANY)).encode() + b"\r\n\r\n" + _TOO_MANY
)


class ImpatientConnection(H11Protocol):
    """uvicorn's connection with a time limit wherever no request is being answered.

    A body that was refused is read on and thrown away for as long, so that the client gets to read the answer: closing
    a connection with unread bytes takes it from it.
    """

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses one connection too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(_REFUSED)
            transport.close()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Lets the time run, or stops it while a request is being answered."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Lets the time run anew."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP; the request before it, if it still waits for an answer, gets none any more."""
        super().send_400_response(msg)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the time."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering or self.transport.is_closing():
            self._unwatch()
        elif self._limit is None:
            self._limit = self.loop.call_later(PATIENCE_SECONDS, self._give_up)

    def _unwatch(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _give_up(self) -> None:
        self._limit = None
        self.transport.close()

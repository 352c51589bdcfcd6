"""HTTP connections that nobody holds open by sending nothing, by sending for ever, or by never reading the answer."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_SECONDS: Final = 10.0
"""For a request's headers to arrive, for the rest of a body that was refused, and between two looks at a client that
reads its answer."""
SLOWEST_BYTES: Final = 16_384
"""Of an answer that a client must read between two looks."""
READING_SECONDS: Final = 120.0
"""For a client to read its answer."""
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
    a connection with unread bytes takes it from it. An answer that its client does not read is thrown away: even a
    closed connection would otherwise stay until its last byte has left.

    Args:
        most_of_a_client: connections of one address at once; of IPv6 addresses, of one network of 64 bits.
        options: of uvicorn.
    """

    _limit: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle | None = None

    def __init__(self, *, most_of_a_client: int, **options: Any) -> None:
        super().__init__(**options)
        self.most_of_a_client = most_of_a_client
        self.peer = ""
        """The client's address."""
        self._unread = 0
        self._reading_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses one connection too many, of all clients or of this one."""
        super().connection_made(transport)
        self.peer = _network(self.client[0] if self.client else "")
        self._look = self.loop.call_later(PATIENCE_SECONDS, self._look_at_reader)
        own = sum(getattr(other, "peer", None) == self.peer for other in self.connections)
        if len(self.connections) > MOST_CONNECTIONS or own > self.most_of_a_client:
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
        if self._look is not None:
            self._look.cancel()
            self._look = None
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

    def _look_at_reader(self) -> None:
        """Ends the connection if its client has stopped to read its answer, or takes too long for it."""
        unread = self.transport.get_write_buffer_size()
        now = self.loop.time()
        if not unread or not self._unread:
            self._reading_since = now
        elif unread > self._unread - SLOWEST_BYTES or now - self._reading_since > READING_SECONDS:
            self.transport.abort()
            return
        self._unread = unread
        self._look = self.loop.call_later(PATIENCE_SECONDS, self._look_at_reader)


def _network(address: str) -> str:
    """What counts as one client: an IPv4 address, or the network of an IPv6 address, of which anybody has millions."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        mapped = known.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(known) >> 64 << 64, 64)))
    return str(known)

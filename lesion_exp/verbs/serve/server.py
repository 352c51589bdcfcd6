"""Runs the web application in this process until it is stopped."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import os
import socket
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lesion_exp.config.project import Project
from lesion_exp.tracking.stored_run import Run
from lesion_exp.verbs.serve.answers import RESEARCH_ONLY
from lesion_exp.verbs.serve.application import make_application
from lesion_exp.verbs.serve.examples import DrawnExample, draw_examples
from lesion_exp.verbs.serve.guard import HEADER_BYTES
from lesion_exp.verbs.serve.model_card import model_card
from lesion_exp.verbs.serve.monitoring import Monitoring
from lesion_exp.verbs.serve.prediction import Prediction
from lesion_exp.verbs.serve.served_model import Asked, Patient, ServedModel, open_model
from lesion_exp.verbs.serve.settings import ModelOptions, Settings

log = logging.getLogger(__name__)


PATIENCE_SECONDS: Final = 10.0
"""Time limit for the headers of a request and for the rest of a refused body, and the interval between two checks of a
client that reads its answer."""
SLOWEST_BYTES: Final = 16_384
"""Bytes of an answer that a client must read between two checks."""
READING_SECONDS: Final = 120.0
"""Time limit for a client to read its answer."""
MOST_CONNECTIONS: Final = 512
"""Connections at the same time; the number of file handles is limited."""
_TOO_MANY: Final = b'{"error":"expected fewer connections at once; try again soon"}'
_REFUSED: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: " + str(len(_TOO_MANY)).encode() + b"\r\n\r\n" + _TOO_MANY
)


class ImpatientConnection(H11Protocol):
    """uvicorn's connection with a time limit while no request is being answered.

    The rest of a refused body is read and discarded until the time limit, so that the client can read the answer: if a
    connection is closed with unread bytes, the answer is lost. An answer that the client does not read is discarded,
    since otherwise even a closed connection would remain until its last byte has been sent.

    Args:
        most_of_a_client: largest number of connections of one IPv4 address, or of one IPv6 network of 64 bits.
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
        """Refuses a connection beyond the limit of all clients, or of this client."""
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
        """Starts the time limit, or stops it while a request is being answered."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Starts the time limit again."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP; a request before it that is still waiting gets no answer."""
        super().send_400_response(msg)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timers."""
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
        """Ends the connection if the client has stopped reading its answer, or takes too long."""
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
    """The key of a client: its IPv4 address, or its IPv6 network, since a client may have any number of addresses."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        mapped = known.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(known) >> 64 << 64, 64)))
    return str(known)


_MOST_DECODERS: Final = 4
_STOP_SECONDS: Final = 10
ENDED: Final = "the server has stopped"


def serve(run: Run, options: ModelOptions, settings: Settings, project: Project, listener: socket.socket) -> None:
    """Serves the network of `run` until Ctrl-C or SIGTERM, which are raised as KeyboardInterrupt and SystemExit.

    Args:
        run: the run.
        options: weights, calibration, conformal sets and layer.
        settings: the address and the limits.
        project: the project.
        listener: a socket that listens at the address.

    Raises:
        ConfigError: the run has no network, or the network needs more than an image.
        DataError: an artifact of the run is missing.
    """
    log.info("loading run %s ...", run.run_id)
    model = open_model(run, options, project)
    examples = draw_examples()
    _warm_up(model, examples)
    monitoring = Monitoring(run.run_id)
    prediction = Prediction(model, run.run_id, settings, monitoring, min(_MOST_DECODERS, os.cpu_count() or 1))
    monitoring.watch("lesion_exp_images_at_once", "Images being answered", lambda: prediction.intake.images)
    monitoring.watch("lesion_exp_upload_bytes", "Bytes of their requests", lambda: prediction.intake.bytes)
    card = model_card(run, model)
    app = make_application(prediction, card, examples, settings, monitoring)
    _quiet()
    config = uvicorn.Config(
        app, http=_connections(settings), ws="none", lifespan="on", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )  # fmt: skip
    try:
        _Server(config, settings).run(sockets=[listener])
    except (KeyboardInterrupt, SystemExit) as stop:
        stop.add_note(ENDED)
        raise


def _connections(settings: Settings) -> type[asyncio.Protocol]:
    """The class of connections for uvicorn, which accepts any callable."""
    made: Any = functools.partial(ImpatientConnection, most_of_a_client=settings.max_client_connections)
    return cast("type[asyncio.Protocol]", made)


class _Server(uvicorn.Server):
    """Prints its address as soon as it answers."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets, "it is given one"
        _say(self._settings, sockets[0].getsockname()[1])


def _warm_up(model: ServedModel, examples: Mapping[str, DrawnExample]) -> None:
    """Predicts an example once, so that errors are found now and the first client does not wait."""
    example = next(iter(examples.values()))
    model.answer([Asked(model.prepare(example.encoded, example.name, Patient()), with_heat_map=True)])


def _quiet() -> None:
    """Silences messages of libraries about broken uploads; the clients get a message, and errors are still logged."""
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    for name in ("python_multipart", "uvicorn"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _say(settings: Settings, port: int) -> None:
    if not settings.is_local and settings.api_key is None:
        log.warning(
            "anybody who can reach %s can use this server, since it listens beyond this machine and asks for no key. "
            "Set LESION_EXP_API_KEY, and put a proxy with TLS in front of it", settings.host,
        )  # fmt: skip
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"{RESEARCH_ONLY}\npage: http://{shown}:{port}/\nAPI:  http://{shown}:{port}/docs\nCtrl-C stops it.",
          file=sys.stderr, flush=True)  # fmt: skip

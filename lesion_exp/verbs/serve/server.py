"""Runs the web application in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Final, cast

import uvicorn

from lesion_exp.errors import ConfigError
from lesion_exp.tracking.find import Run
from lesion_exp.verbs.serve.answers import RESEARCH_ONLY
from lesion_exp.verbs.serve.application import make_application
from lesion_exp.verbs.serve.connection import ImpatientConnection
from lesion_exp.verbs.serve.examples import DrawnExample, draw_examples
from lesion_exp.verbs.serve.guard import HEADER_BYTES
from lesion_exp.verbs.serve.model_card import model_card
from lesion_exp.verbs.serve.monitoring import Monitoring
from lesion_exp.verbs.serve.prediction import Prediction
from lesion_exp.verbs.serve.served_model import Asked, Patient, ServedModel, open_model
from lesion_exp.verbs.serve.settings import ModelOptions, Settings

log = logging.getLogger(__name__)

_MOST_DECODERS: Final = 4
_STOP_SECONDS: Final = 10
ENDED: Final = "the server has stopped"


def serve(run: Run, options: ModelOptions, settings: Settings, paths: Mapping[str, Any]) -> None:
    """Serves the network of `run` until Ctrl-C or SIGTERM, which leave as KeyboardInterrupt and SystemExit.

    Args:
        run: whose network it is.
        options: which weights, calibration, conformal sets and layer.
        settings: where, and how much.
        paths: of the project.

    Raises:
        ConfigError: an address that cannot be used, or a run without a network that sees images alone.
        DataError: something of the run is gone.
    """
    with _listening(settings) as listener:
        log.info("loading run %s ...", run.run_id)
        model = open_model(run, options, paths)
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
    """What uvicorn makes a connection of; it takes whatever can be called."""
    made: Any = functools.partial(ImpatientConnection, most_of_a_client=settings.max_client_connections)
    return cast("type[asyncio.Protocol]", made)


class _Server(uvicorn.Server):
    """Says where it is once it answers there."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets, "it is given one"
        _say(self._settings, sockets[0].getsockname()[1])


def _listening(settings: Settings) -> socket.socket:
    """A socket at the address: asked for before the network is loaded, and nobody can take it meanwhile."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"expected a free address to serve at; {settings.host}:{settings.port} cannot be used: {error.strerror}. "
            f"Give another one, such as port={settings.port + 1}"
        ) from error
    return listener


def _warm_up(model: ServedModel, examples: Mapping[str, DrawnExample]) -> None:
    """Asks the network once, so that what cannot work is known now and the first client need not wait."""
    example = next(iter(examples.values()))
    model.answer([Asked(model.prepare(example.encoded, example.name, Patient()), with_evidence=True)])


def _quiet() -> None:
    """No messages of libraries about uploads, whose senders are told; what goes wrong inside still comes."""
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    for name in ("python_multipart", "uvicorn"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _say(settings: Settings, port: int) -> None:
    if not settings.is_local and settings.api_key is None:
        log.warning(
            "anybody who can reach %s can use this server: it listens beyond this machine and asks for no key. Set "
            "LESION_EXP_API_KEY, and put a proxy with TLS in front of it", settings.host,
        )  # fmt: skip
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"{RESEARCH_ONLY}\npage: http://{shown}:{port}/\nAPI:  http://{shown}:{port}/docs\nCtrl-C ends it.",
          file=sys.stderr, flush=True)  # fmt: skip

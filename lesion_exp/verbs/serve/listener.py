"""Opens the address of the server, before anything large is imported."""

from __future__ import annotations

import socket

from lesion_exp.errors import ConfigError
from lesion_exp.verbs.serve.settings import Settings


def listening(settings: Settings) -> socket.socket:
    """Returns a socket that listens at the address of `settings`.

    It is opened before the network is loaded, so that no other process can take the address.

    Raises:
        ConfigError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"expected a free address, got {settings.host}:{settings.port}, which cannot be used ({error.strerror}); "
            f"name another one, such as port={settings.port + 1}"
        ) from error
    return listener

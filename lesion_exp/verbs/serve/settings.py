"""Where a server listens, and how much it takes on."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, Final

from lesion_exp.errors import ConfigError

LAST_PORT: Final = 65535
MEGABYTE: Final = 2**20
_ABOVE_ZERO: Final = (
    "max_upload_mb", "max_waiting_mb", "max_pixels", "max_images", "queue", "timeout_s", "max_batch",
    "max_client_connections",
)  # fmt: skip
_AUTHORITY: Final = re.compile(r"(\[(?P<address>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[\w.-]+))(:\d{1,5})?", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """The limits of a server; what exceeds one is refused with a status between 400 and 499."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    """What clients must send to get predictions; None: nothing."""
    max_upload_mb: float = 32
    """Of one request, in MiB."""
    max_waiting_mb: float = 256
    """Of all requests at once, in MiB."""
    max_pixels: int = 40_000_000
    """Of one image."""
    max_images: int = 16
    """In one request."""
    queue: int = 64
    """Images that are being decoded, wait or are in the network, at most."""
    timeout_s: float = 30
    """Seconds within which a request is answered."""
    max_batch: int = 16
    """Images that go through the network together, at most; 1: each alone."""
    max_wait_ms: float = 10
    """Milliseconds that an image waits for others that are on their way."""
    max_client_connections: int = 64
    """Connections of one address at once; a proxy has one address for all its clients."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which clients may call the server, beside those of loopback and `host`."""

    def __post_init__(self) -> None:
        """Refuses what is no value of its key.

        Raises:
            ConfigError: one of the keys.
        """
        if not 0 <= self.port <= LAST_PORT:
            raise ConfigError(f"expected port to be a number from 0 to {LAST_PORT}, got {self.port}")
        for name in _ABOVE_ZERO:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"expected {name} to be a number above 0, got {getattr(self, name)}")
        if not 0 <= self.max_wait_ms < math.inf:
            raise ConfigError(f"expected max_wait_ms to be a number of at least 0, got {self.max_wait_ms}")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError("expected an API key of plain letters, digits and signs, since it travels in a header")
        for name in self.allowed_hosts:
            if host_of(name) != name.lower() or name.startswith("."):
                raise ConfigError(
                    f"expected the names of hosts, without scheme, port and path, in allowed_hosts, got {name!r}; for "
                    f"example allowed_hosts=skin.example.org,10.0.0.7"
                )
        for small, large in (("max_images", "queue"), ("max_upload_mb", "max_waiting_mb")):
            if getattr(self, small) > getattr(self, large):
                raise ConfigError(
                    f"expected {large} of at least {small}, got {large}={getattr(self, large):g} and "
                    f"{small}={getattr(self, small):g}: such a request would never be taken"
                )

    @property
    def max_upload_bytes(self) -> int:
        """Of one request."""
        return int(self.max_upload_mb * MEGABYTE)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def is_everywhere(self) -> bool:
        """Whether the server listens on every address of this machine."""
        return self.host in {"", "0.0.0.0", "::"}


def is_loopback(host: str) -> bool:
    """Whether a host's name, or its address, is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(authority: str) -> str | None:
    """The host in `host`, `host:port` or `[address]:port`, in lower case; None where it is none of them."""
    found = _AUTHORITY.fullmatch(authority.strip())
    if found is None:
        return None
    return (found["address"] or found["name"]).lower().rstrip(".") or None


def settings_from(given: dict[str, Any]) -> Settings:
    """The settings with the values `given`, where None means: as by default."""
    known = {entry.name for entry in fields(Settings)}
    return Settings(**{name: value for name, value in given.items() if name in known and value is not None})

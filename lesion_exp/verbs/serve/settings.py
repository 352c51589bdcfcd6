"""The options of `serve`: what is served, at which address, and with which limits."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lesion_exp.choices import ANY_CALIBRATION, CONFORMAL, NONE, WEIGHTS
from lesion_exp.errors import ConfigError
from lesion_exp.option import Kind, Names, Number, check_options, choice, option, whole

if TYPE_CHECKING:
    from lesion_exp.trained_runs.trained_run import WhichWeights

KEY_VARIABLE: Final = "LESION_EXP_API_KEY"
LAST_PORT: Final = 65535
MEGABYTE: Final = 2**20
_AUTHORITY: Final = re.compile(r"(\[(?P<address>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[\w.-]+))(:\d{1,5})?", re.ASCII)


@dataclass(frozen=True)
class ModelOptions:
    """What is served of a run."""

    calibration: str = option(NONE, choice(ANY_CALIBRATION), "a calibration fitted on the validation part")
    conformal: str = option(
        "aps",
        choice(CONFORMAL),
        "the method of conformal sets; those of aps are never empty, those of lac the smallest on average",
    )
    layer: str | None = option(
        None,
        Kind("LAYER", "layer3", "the name of a layer"),
        "layer of the heat maps; without it, the last one. An earlier layer is finer for small images",
        key="grad_cam.layer",
    )
    checkpoint: WhichWeights = option("best", choice(WEIGHTS, path_too=True), "which of the run's weights")

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: an option does not accept its value.
        """
        check_options(self)


@dataclass(frozen=True)
class Settings:
    """The address and the limits of a server; what exceeds a limit is refused with a status between 400 and 499."""

    host: str = option(
        "127.0.0.1",
        Kind("ADDRESS", "0.0.0.0", "an address"),
        "address to listen on; set an API key where others can reach it",
    )
    port: int = option(8000, whole(0, LAST_PORT, "8001"), "port to listen on; 0: any free one")
    api_key: str | None = option(
        None,
        Kind("KEY", "KEY"),
        f"key that clients must send (X-API-Key); better set in {KEY_VARIABLE}, which no list of processes shows",
        repr=False,
    )
    max_upload_mb: float = option(32, Number(above=True, example="64"), "largest upload of one request, MiB")
    max_waiting_mb: float = option(
        256, Number(above=True, example="512"), "largest uploads of all requests together, MiB"
    )
    max_pixels: int = option(40_000_000, whole(example="20000000"), "largest number of pixels of an image")
    max_images: int = option(16, whole(), "largest number of images in a request")
    queue: int = option(
        64,
        whole(example="64"),
        "largest number of images that are read, waiting or in the network; more are refused with status 429",
    )
    timeout_s: float = option(30, Number(above=True, example="30"), "seconds within which a request is answered")
    max_batch: int = option(16, whole(), "largest number of images that pass through the network together")
    max_wait_ms: float = option(
        10, Number(example="10"), "longest time that an image waits for others that are arriving, milliseconds"
    )
    max_client_connections: int = option(
        64,
        whole(example="64"),
        "largest number of connections of one address; raise it behind a proxy, whose clients share one address",
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        Names("NAME,NAME", "skin.example.org,10.0.0.7"),
        "further host names by which clients call the server, beside localhost and host=, such as that of a proxy",
    )

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: an option does not accept its value, or two options contradict each other.
        """
        check_options(self)
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError(
                f"expected an API key of printable ASCII characters, since it is sent in a header, got others; set "
                f"another {KEY_VARIABLE}"
            )
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
                    f"{small}={getattr(self, small):g}, a request that would always be refused; lower {small}= or "
                    f"raise {large}="
                )

    @property
    def max_upload_bytes(self) -> int:
        """Largest upload of one request, bytes."""
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
    """Returns whether the name or address `host` means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(authority: str) -> str | None:
    """Returns the host in `host`, `host:port` or `[address]:port`, in lower case.

    Returns None if `authority` is none of these.
    """
    found = _AUTHORITY.fullmatch(authority.strip())
    if found is None:
        return None
    return (found["address"] or found["name"]).lower().rstrip(".") or None

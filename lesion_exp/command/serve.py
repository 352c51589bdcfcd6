"""The verb `serve`: a run's network as a web application."""

from __future__ import annotations

import os
from typing import Any, Final

from lesion_exp.command.arguments import Arguments, check_store_keys, open_store_of
from lesion_exp.command.chosen_run import chosen_checkpoint, chosen_run
from lesion_exp.errors import ConfigError, not_installed

KEY_VARIABLE: Final = "LESION_EXP_API_KEY"
_WHOLE: Final = ("port", "max_pixels", "max_images", "queue", "max_batch", "max_client_connections")
_NUMBERS: Final = ("max_upload_mb", "max_waiting_mb", "timeout_s", "max_wait_ms")
_CONFORMAL: Final = ("aps", "lac")


def serve(arguments: Arguments) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    spec = arguments.need("run", "latest")
    given: dict[str, Any] = {
        "host": arguments.take("host"),
        "api_key": _key(arguments),
        "allowed_hosts": _names(arguments),
    }
    given |= {name: _number(arguments, name, whole=True) for name in _WHOLE}
    given |= {name: _number(arguments, name, whole=False) for name in _NUMBERS}
    checkpoint = chosen_checkpoint(arguments, spec)
    options = {
        "checkpoint": checkpoint,
        "calibration": arguments.take("calibration"),
        "conformal": arguments.choose("conformal", _CONFORMAL) or "aps",
        "layer": arguments.take("grad_cam.layer"),
    }
    check_store_keys(arguments)
    _check_installed()
    from lesion_exp.verbs.serve.settings import settings_from

    settings = settings_from(given)
    store, paths = open_store_of(arguments)
    from lesion_exp.verbs.serve.server import serve as serve_run

    serve_run(chosen_run(store, spec), options, settings, paths)
    return 0


def _check_installed() -> None:
    from importlib.util import find_spec

    for module, package in (
        ("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("python_multipart", "python-multipart"),
        ("prometheus_client", "prometheus-client"),
    ):  # fmt: skip
        if find_spec(module) is None:
            raise not_installed(package, "serve (the extra serve has all it needs)")


def _key(arguments: Arguments) -> str | None:
    """The key, from the command or, where no other user of this machine can see it, from the environment."""
    return arguments.take("api_key") or os.environ.get(KEY_VARIABLE) or None


def _names(arguments: Arguments) -> tuple[str, ...] | None:
    text = arguments.take("allowed_hosts")
    if text is None:
        return None
    return tuple(name.strip() for name in text.removeprefix("[").removesuffix("]").split(","))


def _number(arguments: Arguments, key: str, *, whole: bool) -> float | None:
    text = arguments.take(key)
    if text is None:
        return None
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        what = "a whole number" if whole else "a number"
        raise ConfigError(f"expected {key} to be {what}, got {text!r}; for example {key}=4") from error

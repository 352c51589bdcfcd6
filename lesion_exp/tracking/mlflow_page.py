"""`python -m lesion_exp.tracking.mlflow_page`: MLflow's server with the script of `first_visit_script` in its page.

The environment variable MLFLOW_BACKEND_STORE_URI names the store, as for `mlflow ui`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from lesion_exp.tracking.view import RUN_NAME, run_chart_state, view_state

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
STORE_VARIABLE: Final = "MLFLOW_BACKEND_STORE_URI"
_PAGE: Final = "/"
_OF_A_COPY: Final = (b"if-none-match", b"if-modified-since")
"""Headers by which a browser validates its cached copy of the page, which may lack the script."""
_PREFIX: Final = "MLflowLocalStorage-1.1"
_WIDE: Final = 1300
"""Width of a window, pixels, that has room for the whole name of most runs."""
_WIDE_NAME: Final = 300
_SCRIPT: Final = """
(() => {
  const view = %(view)s;
  if (window.innerWidth >= %(wide)d) view.columnWidths[%(run_name)s] = %(wide_name)d;
  const defaults = [
    [/^mlflow\\.assistant\\.fab\\.autoOpenedOnFirstLoad_v\\d+$/, true],
    [/^mlflow\\.workflowType_v\\d+$/, "machine_learning"],
    [/^%(prefix)s-ExperimentPage-\\["\\d+"\\]-ReactComponentState$/, view],
    [/^%(prefix)s-RunPage-[0-9a-f]{32}-model-chartUIState$/, %(run)s],
  ];
  const stored = Storage.prototype.getItem;
  Storage.prototype.getItem = function (key) {
    const value = stored.call(this, key);
    const found = value === null && this === window.localStorage && defaults.find(([name]) => name.test(key));
    return found ? JSON.stringify(found[1]) : value;
  };
  if (["", "#", "#/"].includes(location.hash) && !document.referrer.startsWith(location.origin))
    location.replace("#/experiments/" + %(experiment)s + "/runs?workflowType=machine_learning");
})();
"""


def main() -> None:
    """Serves the page until the process is asked to end."""
    parser = argparse.ArgumentParser(description="Serves MLflow's page.")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--experiment", required=True, help="id of the experiment that opens")
    parser.add_argument("--default-artifact-root", help="folder of the artifacts of new experiments")
    options = parser.parse_args()

    import uvicorn
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, SERVE_ARTIFACTS_ENV_VAR

    os.environ[BACKEND_STORE_URI_ENV_VAR] = os.environ[STORE_VARIABLE]
    os.environ[SERVE_ARTIFACTS_ENV_VAR] = "true"
    if options.default_artifact_root:
        os.environ[ARTIFACT_ROOT_ENV_VAR] = options.default_artifact_root
    from mlflow.server.fastapi_app import app  # which reads the variables

    page = PageWithScript(app, first_visit_script(options.experiment))
    uvicorn.run(page, host=options.host, port=options.port)


class PageWithScript:
    """An ASGI application that adds a script to the page of another application."""

    def __init__(self, application: Application, script: str) -> None:
        self._application = application
        self._script = script

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http" or scope["path"] != _PAGE or scope["method"] != "GET":
            await self._application(scope, receive, send)
            return
        asked = {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() not in _OF_A_COPY]}
        start: Message = {}
        body = bytearray()

        async def gather(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                page = with_script(bytes(body), self._script)
                length = (b"content-length", str(len(page)).encode())
                start["headers"] = [pair for pair in start["headers"] if pair[0].lower() != length[0]] + [length]
                await send(start)
                await send({"type": "http.response.body", "body": page})

        await self._application(asked, receive, gather)


def first_visit_script(experiment_id: str) -> str:
    """Returns a script with default views for a browser that has stored none. The bare address opens the experiment."""
    return _SCRIPT % {
        "view": _literal(view_state()),
        "run": _literal(run_chart_state()),
        "wide": _WIDE,
        "run_name": _literal(RUN_NAME),
        "wide_name": _WIDE_NAME,
        "prefix": _PREFIX.replace(".", "\\."),
        "experiment": _literal(experiment_id),
    }


def with_script(page: bytes, script: str) -> bytes:
    """Returns an HTML page with `script` before its other scripts; other content is returned unchanged."""
    head, found, rest = page.partition(b"<head>")
    return head + found + b"<script>" + script.encode() + b"</script>" + rest if found else page


def _literal(value: Any) -> str:
    """Returns a value as JavaScript within HTML."""
    return json.dumps(value).replace("<", "\\u003c")


if __name__ == "__main__":
    main()

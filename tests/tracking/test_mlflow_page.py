import asyncio
import json
import shutil
import subprocess
from collections.abc import MutableMapping
from typing import Any

import pytest

from lesion_exp.tracking.mlflow_page import PageWithScript, first_visit_script, with_script

PAGE = b"<!doctype html><html><head><title>MLflow</title><script src='main.js'></script></head></html>"
Message = MutableMapping[str, Any]


async def mlflow(scope: Message, receive: Any, send: Any) -> None:
    """A server that says nothing of a page that the browser has already."""
    known = any(name == b"if-none-match" for name, _ in scope["headers"])
    headers = [(b"content-length", str(len(PAGE)).encode()), (b"etag", b"x")]
    await send({"type": "http.response.start", "status": 304 if known else 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE[:20], "more_body": True})
    await send({"type": "http.response.body", "body": PAGE[20:]})


def ask(path: str) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "method": "GET", "headers": [(b"if-none-match", b"x")]}
    asyncio.run(PageWithScript(mlflow, "let x")(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])


def test_page_has_the_script_before_its_own_ones_also_in_a_browser_that_has_a_copy() -> None:
    status, headers, body = ask("/")
    assert status == 200
    assert int(headers[b"content-length"]) == len(body)
    assert body == PAGE.replace(b"<head>", b"<head><script>let x</script>")


def test_all_else_passes_unchanged() -> None:
    assert ask("/ajax-api/2.0/mlflow/runs/search") == (304, {b"content-length": b"93", b"etag": b"x"}, PAGE)
    assert with_script(b"no page", "let x") == b"no page"


BROWSER = """
class Storage { constructor() { this.kept = {}; } getItem(key) { return key in this.kept ? this.kept[key] : null; } }
globalThis.localStorage = new Storage();
globalThis.window = {innerWidth: WIDTH, localStorage};
globalThis.location = {hash: HASH, origin: "http://x", replace(to) { this.hash = to; }};
globalThis.document = {referrer: ""};
"""
ASK = """
localStorage.kept["mlflow.workflowType_v1"] = '"genai"';
const names = NAMES;
console.log(JSON.stringify({hash: location.hash, values: names.map(name => localStorage.getItem(name))}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's script")
@pytest.mark.parametrize(("width", "name_width"), [(1024, 160), (1440, 300)])
def test_script_answers_for_what_the_browser_does_not_have_and_for_nothing_else(width: int, name_width: int) -> None:
    names = [
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1",
        "mlflow.workflowType_v1",
        'MLflowLocalStorage-1.1-ExperimentPage-["12"]-ReactComponentState',
        f"MLflowLocalStorage-1.1-RunPage-{'0f' * 16}-model-chartUIState",
        f"MLflowLocalStorage-1.1-RunPage-{'0f' * 16}-system-chartUIState",
        "mlflow.assistant.panelOpen_v1",
    ]
    browser = BROWSER.replace("WIDTH", str(width)).replace("HASH", '""')
    program = browser + first_visit_script("7") + ASK.replace("NAMES", json.dumps(names))
    found = json.loads(subprocess.run(["node", "-e", program], capture_output=True, check=True, text=True).stdout)
    assert found["hash"] == "#/experiments/7/runs?workflowType=machine_learning"
    opened, mode, view, charts, system, panel = found["values"]
    assert opened == "true", "the assistant's panel counts as opened before"
    assert mode == '"genai"', "what the person chose stays"
    assert json.loads(view)["columnWidths"]["attributes.`Run Name`"] == name_width
    assert json.loads(charts)["compareRunCharts"][0]["selectedMetricKeys"] == ["train/loss", "val/loss"]
    assert system is None
    assert panel is None

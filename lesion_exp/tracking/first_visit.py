"""What MLflow's page shows in a browser that never was there, where `lesion-exp ui` serves it.

MLflow's page keeps the choices of a person in the browser's local storage, and no server can give them beforehand: a
saved view has to be opened first, and the panel of the assistant opens by itself on the first visit of a server on the
same machine. The script below, put at the beginning of the page, answers for what the local storage does not hold yet.
It writes nothing there: once a person has chosen columns or opened the panel, the page keeps that as always.
"""

from __future__ import annotations

import json
from typing import Any, Final

from lesion_exp.tracking.charts import run_chart_state
from lesion_exp.tracking.view import RUN_NAME, view_state

_PREFIX: Final = "MLflowLocalStorage-1.1"
_WIDE: Final = 1300
"""Pixels of a window from which on there is room for the whole name of most runs."""
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


def first_visit_script(experiment_id: str) -> str:
    """The script; an address without a page opens the runs of the experiment."""
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
    """An HTML page with `script` before all of its own scripts; anything else unchanged."""
    head, found, rest = page.partition(b"<head>")
    return head + found + b"<script>" + script.encode() + b"</script>" + rest if found else page


def _literal(value: Any) -> str:
    """A value in JavaScript within HTML."""
    return json.dumps(value).replace("<", "\\u003c")

"""Config-driven experiments for classifying images of skin lesions."""

from __future__ import annotations

from lesion_exp.interface import (
    compare,
    evaluate,
    import_predictions,
    open_run,
    plan,
    predict,
    prepare,
    run,
    runs,
    sweep,
)
from lesion_exp.process.cpu_settings import limit_active_waiting
from lesion_exp.version import __version__

__all__ = [
    "__version__",
    "compare",
    "evaluate",
    "import_predictions",
    "open_run",
    "plan",
    "predict",
    "prepare",
    "run",
    "runs",
    "sweep",
]

limit_active_waiting()

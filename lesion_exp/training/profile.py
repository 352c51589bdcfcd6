"""`trainer.profiler`: where a run's time went, kept with the run."""

from __future__ import annotations

import logging
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from lesion_exp.errors import ConfigError
from lesion_exp.tracking.run import TrackedRun

log = logging.getLogger("lesion_exp")

FOLDER: Final = "profile"
"""Of the run's artifacts, and of its live folder."""
_KINDS: Final = MappingProxyType({"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler})


def profiler_in(live_dir: Path, chosen: Any) -> Profiler | None:
    """Lightning's profiler of the name `chosen`, which writes below `live_dir`; None for null.

    Raises:
        ConfigError: none has that name.
    """
    if chosen is None:
        return None
    if not isinstance(chosen, str) or chosen not in _KINDS:
        raise ConfigError(f"expected trainer.profiler to be one of {', '.join(_KINDS)} or null, got {chosen!r}")
    profiler: Profiler = _KINDS[chosen](dirpath=live_dir / FOLDER, filename="profile")
    return profiler


def keep_profile(run: TrackedRun, live_dir: Path) -> None:
    """Logs what a profiler wrote below `live_dir`, if there was one."""
    written = sorted((live_dir / FOLDER).glob("*"))
    for path in written:
        run.log_text(path.read_text(encoding="utf-8", errors="replace"), f"{FOLDER}/{path.name}")
    if written:
        log.info("profile: %d file(s) below %s/ in the run's artifacts", len(written), FOLDER)

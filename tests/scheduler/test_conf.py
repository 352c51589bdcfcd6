from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_scheduler_module_has_its_yaml() -> None:
    modules = {path.stem for path in (ROOT / "lesion_exp" / "scheduler").glob("*.py")}
    shipped = {path.stem for path in (ROOT / "conf" / "scheduler").glob("*.yaml")}
    assert shipped == modules - {"__init__", "schedule", "length"}

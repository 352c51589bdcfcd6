from __future__ import annotations

from pathlib import Path

CONF_DIR = Path(__file__).parents[2] / "conf" / "loss"


def test_every_loss_module_has_its_yaml() -> None:
    shipped = {path.stem for path in CONF_DIR.glob("*.yaml")}
    modules = {path.stem for path in (Path(__file__).parents[2] / "lesion_exp" / "loss").glob("*.py")}
    assert shipped == modules - {"__init__", "base", "validation_loss"}

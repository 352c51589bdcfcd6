from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "conf" / "explanation").glob("*.yaml"))
NO_METHODS = {
    "__init__",
    "cells",
    "explainer",
    "saliency_map",
    "network",
    "random_weights",
}


def test_every_method_has_its_yaml():
    assert {path.stem for path in FILES} == {
        path.stem for path in (ROOT / "lesion_exp" / "explanation").glob("*.py")
    } - NO_METHODS

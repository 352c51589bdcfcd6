import json
from pathlib import Path

import pytest

from lesion_exp.verbs.predict.plan import PredictionPlan
from tests.untrained_network import CLASSES, photographs, restored, restored_with_metadata, untrained, vast

__all__ = ["CLASSES", "photographs", "restored", "restored_with_metadata", "untrained", "vast"]

BROKEN = ("empty.png", "text.jpg", "truncated.png", "vast.png")


@pytest.fixture
def plan_for(untrained):
    """Freezes a plan of the untrained network in a folder; returns both."""
    config, checkpoint = untrained()

    def make(images, output, **changed):
        values = {
            "run_id": "r", "checkpoint": str(checkpoint), "weights_hash": "w", "config": config, "calibrator": None,
            "source": "s", "digest": "d", "output": str(output), "top": 0, "rank": None, "batch_size": 4,
            "num_workers": 0, "devices": 1,
        }  # fmt: skip
        plan = PredictionPlan(**(values | changed))
        folder = Path(f"{output}.part")
        plan.write(folder, images)
        assert json.loads((folder / "plan.json").read_text())["output"] == str(output)
        return plan, folder

    return make

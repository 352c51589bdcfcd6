import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_training_benchmark_reports_its_ratios():
    script = Path(__file__).parents[1] / "scripts" / "benchmark.py"
    command = [
        sys.executable,
        str(script),
        "train",
        "--cases",
        "resnet18_112",
        "--seconds",
        "0.5",
        "--rounds",
        "1",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    case = json.loads(done.stdout)["cases"]["resnet18_112"]
    assert case["ratio_to_bare"] > 0
    assert case["ratio_to_notebook"] > 0


@pytest.mark.slow
def test_the_sweep_benchmark_reports_its_overhead():
    script = Path(__file__).parents[1] / "scripts" / "benchmark.py"
    command = [sys.executable, str(script), "sweep", "--cells", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    result = json.loads(done.stdout)
    assert result["sweep_seconds"] > 0
    assert result["overhead_seconds"] == result["sweep_seconds"] - result["alone_seconds"]

from pathlib import Path

import pytest

from lesion_exp.tracking.system_metrics import nvidia_smi, system_metrics


def pretend_gpu(folder: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{answer}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_each_gpu_has_its_readings_and_unknown_ones_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(tmp_path, "echo '0, 1000, 4000, 37, 71.5'; echo '1, 0, 4000, [N/A], [N/A]'", monkeypatch)
    values = system_metrics()
    assert values["system/gpu_0_memory_usage_megabytes"] == 1048.6
    assert values["system/gpu_0_memory_usage_percentage"] == 25.0
    assert values["system/gpu_0_utilization_percentage"] == 37.0
    assert values["system/gpu_0_power_usage_watts"] == 71.5
    assert values["system/gpu_1_memory_usage_megabytes"] == 0.0
    assert "system/gpu_1_utilization_percentage" not in values


def test_driver_that_fails_gives_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(tmp_path, "echo 'no devices were found'; exit 6", monkeypatch)
    assert nvidia_smi("index") == []
    assert not any("gpu" in name for name in system_metrics())

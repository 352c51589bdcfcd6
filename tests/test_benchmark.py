from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark.py"
pytestmark = pytest.mark.long


def results(*arguments, seconds=300):
    command = [sys.executable, str(SCRIPT), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    return json.loads(done.stdout)


def test_training_has_its_ratios():
    case = results("train", "--cases", "resnet18_112", "--seconds", "0.5", "--rounds", "1")["cases"]["resnet18_112"]
    rates = case["images_per_second"]
    assert case["ratio_to_bare"] == rates["framework"] / rates["bare"] > 0
    assert case["ratio_to_notebook"] == rates["framework"] / rates["notebook"] > 0


def test_a_sweep_has_its_overhead():
    result = results("sweep", "--cells", "2")
    assert result["sweep_seconds"] > 0
    assert result["overhead_seconds"] == result["sweep_seconds"] - result["alone_seconds"]


def test_input_is_set_beside_other_pipelines_from_pixels_and_from_files():
    result = results("input", "--images", "32", "--rounds", "1")
    rates = {name: entry["median"] for name, entry in result["images_per_processor_second"].items()}
    for group, others in (
        ("224 px", {"albumentations", "torchvision v2"}),
        ("112 px from files", {"framework, in full", "notebook"}),
    ):
        ratios = result[f"ratios {group}"]
        assert others < set(ratios)
        assert all(ratios[name] == rates[f"{group}, framework"] / rates[f"{group}, {name}"] > 0 for name in ratios)
    assert result["ratios 112 px from files"]["framework, in full"] > 1
    assert ("webdataset" in result["left_out"]) is ("112 px from files, webdataset" not in rates)
    assert ("nvidia.dali" in result["left_out"]) is ("224 px, dali" not in rates)
    assert result["epoch_start"]["first_seconds"] > 0


def test_the_first_step_is_set_beside_bare_imports():
    result = results("start", "--rounds", "1", "--verbs", "completion", "predict")
    assert result["seconds"]["help"]["median"] < result["seconds"]["imports"]["median"]
    assert result["seconds"]["first step"]["median"] > 1
    completion, predict = result["verbs"]["completion"], result["verbs"]["predict"]
    assert completion["first_line"]["median"] < predict["imports"]["median"]
    assert {"torch", "torchvision"} <= set(predict["loaded"])
    assert predict["beyond"] == predict["first_line"]["median"] - predict["imports"]["median"]


def test_kept_memory_saves_page_faults():
    case = results("memory", "--cases", "resnet18_96", "--batch-size", "8", "--steps", "6", "--rounds", "1")[
        "resnet18_96"
    ]
    assert case["kept"]["faults"] < case["as it is"]["faults"] / 3
    assert case["ratios"] == [case["kept"]["rate"] / case["as it is"]["rate"]]


def test_the_bootstrap_is_set_beside_a_loop():
    result = results("evaluate", "--predictions", "300", "--draws", "100", "--rounds", "1")
    assert result["ratio_to_loop"] > 0
    assert result["seconds"]["whole verdict"]["median"] > result["seconds"]["framework"]["median"]


def test_many_rows_are_prepared_split_and_read():
    result = results("scale", "--rows", "640", "--images", "20", "--rounds", "1")
    assert result["prepare"]["ratio_to_decoding"] > 0
    assert result["prepare"]["processor_ratio_to_decoding"] > 1
    assert list(result["split"]["near_duplicate_seconds"]) == ["40", "160", "640"]
    assert result["memory"]["loader_mb"] < 300


def test_whole_commands_are_measured_and_find_the_planted_near_duplicates():
    result = results("commands", "--images", "4000")["images"]["4000"]
    assert result["pairs_planted"] == result["pairs_found"] == 2
    assert list(result["commands"]) == ["prepare", "prepare, again", "audit", "train", "evaluate", "report"]
    for measured in result["commands"].values():
        assert measured["code"] == 0
        assert min(measured["memory_mb"], measured["process_mb"]) > 50
        assert measured["wall_seconds"] > 0 < measured["processor_seconds"]


def test_cells_that_run_at_once_are_set_beside_a_cell_alone():
    result = results("workers", "--cells", "2", "--rounds", "1", "--workers", "2", seconds=900)
    assert list(result["cell_seconds"]) == ["one at a time", "2 at once", "alone on one core"]
    assert result["cost"] == result["cell_seconds"]["2 at once"][0] / result["cell_seconds"]["alone on one core"][0] > 0
    assert all(rate > 0 for rates in result["cells_a_minute"].values() for rate in rates)


def test_many_cells_are_planned_driven_and_shown():
    few, more = results("cells", "--cells", "10", "30")["cells"]
    assert (few["cells"], more["cells"]) == (10, 30)
    assert more["plan_seconds"] > few["plan_seconds"] > 0
    assert min(more["first_processor"], more["last_processor"], more["status_processor"]) > 0


def test_commands_are_measured_on_stores_of_several_sizes():
    result = results("stores", "--runs", "10", "20", "--rounds", "1", seconds=900)
    assert list(result["seconds_to_make"]) == ["10", "20"]
    measured = result["sqlite"]
    for found in (*measured["seconds"].values(), *measured["processor_seconds"].values()):
        assert all(entry["median"] > 0 for entry in found.values())
        assert list(found) == ["10", "20"]
    assert len(measured["seconds"]) == 11
    for taken in measured["processor_seconds_of_page"].values():
        assert taken["10"] > 0
        assert taken["20"] > 0

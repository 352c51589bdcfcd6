"""The file of features: the same bits for every type, written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lesion_exp.data.features import CachedFeatures, kept_features, open_or_compute
from lesion_exp.errors import ConfigError, DataError

NUM_ROWS, WIDTH = 7, 5
Batch = tuple[np.ndarray, Tensor]


def drawn(kind: torch.dtype) -> Tensor:
    return (torch.randn(NUM_ROWS, WIDTH, generator=torch.Generator().manual_seed(0)) * 1e-6).to(kind)


def batches(values: Tensor, left_out: int | None = None) -> Iterator[Batch]:
    rows = np.array([row for row in range(NUM_ROWS) if row != left_out])
    for part in np.array_split(rows, 3):
        yield part, values[part]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_read_has_the_bits_that_were_computed(tmp_path: Path, kind: torch.dtype) -> None:
    values = drawn(kind)
    features = open_or_compute(tmp_path / "features" / "key", NUM_ROWS, lambda _: batches(values))
    for rows in ([3, 0, 3], [6], list(range(NUM_ROWS))):
        read = features.read(np.array(rows))
        assert read.dtype == kind
        assert torch.equal(read, values[rows])


def test_rows_without_an_image_stay_zero_and_nothing_is_computed_twice(tmp_path: Path) -> None:
    values = drawn(torch.float32)
    open_or_compute(tmp_path / "key", NUM_ROWS, lambda _: batches(values, left_out=2))

    def again(_: int) -> Iterator[Batch]:
        raise AssertionError("computed twice")

    found = open_or_compute(tmp_path / "key", NUM_ROWS, again)
    assert not found.read(np.array([2])).any()
    assert torch.equal(found.read(np.array([1])), values[1:2])


def stopped_after(folder: Path, values: Tensor, count: int) -> None:
    """Leaves a computation that was interrupted after `count` batches."""

    def interrupted(done: int) -> Iterator[Batch]:
        yield from list(batches(values))[done:count]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_or_compute(folder, NUM_ROWS, interrupted)
    assert not folder.exists(), "nothing reads what is not whole"


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_computation_that_was_interrupted_goes_on_where_it_stopped(tmp_path: Path, kind: torch.dtype) -> None:
    values, folder = drawn(kind), tmp_path / "key"
    stopped_after(folder, values, 1)
    stopped_after(folder, values, 2)
    asked = []

    def compute(done: int) -> Iterator[Batch]:
        asked.append(done)
        return iter(list(batches(values))[done:])

    found = open_or_compute(folder, NUM_ROWS, compute)
    assert asked == [2]
    assert torch.equal(found.read(np.arange(NUM_ROWS)), values)
    assert [file.name for file in sorted(folder.iterdir())] == ["features.bin", "meta.json"]
    assert kept_features(tmp_path) == (1, NUM_ROWS * WIDTH * kind.itemsize)


@pytest.mark.parametrize("damage", ["shorter", "no progress", "other rows"])
def test_what_cannot_be_gone_on_with_is_computed_anew(tmp_path: Path, damage: str) -> None:
    values, folder = drawn(torch.float32), tmp_path / "key"
    stopped_after(folder, values, 2)
    building = tmp_path / "building_key"
    progress = building / "progress.json"
    if damage == "shorter":
        (building / "features.bin").write_bytes(b"1234")
    elif damage == "no progress":
        progress.write_text("{")
    else:
        progress.write_text(progress.read_text().replace(f'"rows": {NUM_ROWS}', '"rows": 6'))
    found = open_or_compute(folder, NUM_ROWS, lambda done: batches(values) if not done else iter([]))
    assert torch.equal(found.read(np.arange(NUM_ROWS)), values)


@pytest.mark.parametrize("damage", ["shorter", "no meta"])
def test_damaged_features_are_refused_with_the_folder_to_delete(tmp_path: Path, damage: str) -> None:
    open_or_compute(tmp_path / "key", NUM_ROWS, lambda _: batches(drawn(torch.float32)))
    if damage == "shorter":
        file = tmp_path / "key" / "features.bin"
        file.write_bytes(file.read_bytes()[:-4])
    else:
        (tmp_path / "key" / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"key.*delete that folder"):
        CachedFeatures(tmp_path / "key")


def test_a_full_disk_is_told_before_a_page_without_room_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    values = drawn(torch.float32)
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(ConfigError, match=rf"below {tmp_path}, .* set paths.data_cache=DIR"):
            open_or_compute(tmp_path / "key", NUM_ROWS, lambda _: batches(values))
    features = open_or_compute(tmp_path / "key", NUM_ROWS, lambda done: list(batches(values))[done:])
    assert torch.equal(features.read(np.arange(NUM_ROWS)), values)

"""Data and split are read once for processes that are forked, and anew where anything that they depend on changed."""

import os

import pandas as pd
import pytest

from lesion_exp.dataset.findings import Finding
from lesion_exp.training import shared_split
from lesion_exp.training.data import load_data, split_data


@pytest.fixture
def read(monkeypatch):
    """Keeps nothing of other tests; the configs whose data were read."""
    configs = []
    monkeypatch.setattr(shared_split, "_KEPT", {})
    monkeypatch.setattr(shared_split, "load_data", lambda config: configs.append(config) or load_data(config))
    return configs


def test_what_is_shared_is_what_a_single_run_reads(tiny_job, read):
    config = tiny_job().config
    alone = split_data(config, load_data(config))
    shared_split.share_split(config)
    shared_split.share_split(config)
    found = shared_split.split_of(tiny_job("seed=5", "loss=focal", "optimizer.lr=0.1").config)
    assert len(read) == 1
    pd.testing.assert_frame_equal(found.table, alone.table)
    assert (found.split_hash, found.classes, found.leaky) == (alone.split_hash, alone.classes, alone.leaky)
    assert found.audit.to_dict() == alone.audit.to_dict()
    assert found.loaded.data.tags() == alone.loaded.data.tags()
    assert found.loaded.flow == alone.loaded.flow


@pytest.mark.parametrize("override", ["split.seed=1", "dataset.limit=60", "task.target=malignant", "image_size=48"])
def test_other_data_or_another_split_is_read_anew(tiny_job, read, override):
    shared_split.share_split(tiny_job().config)
    config = tiny_job(override).config
    found = shared_split.split_of(config)
    assert len(read) == 2
    pd.testing.assert_frame_equal(found.table, split_data(config, load_data(config)).table)


def test_changed_files_and_a_deleted_store_are_read_anew(tiny_job, read, tmp_path):
    config = tiny_job(root=tmp_path).config
    shared_split.share_split(config)
    file = next(tmp_path.glob("data_cache/synthetic/*/metadata.csv"))
    os.utime(file, ns=(1, 1))
    shared_split.split_of(config)
    assert len(read) == 2, "a file has changed"
    shared_split.share_split(config)
    shared_split.split_of(config)
    assert len(read) == 3
    for meta in tmp_path.glob("data_cache/store_*/meta.json"):
        meta.unlink()
    assert shared_split.split_of(config).loaded.store.is_there()
    assert len(read) == 4


def test_findings_of_one_cell_do_not_reach_another(tiny_job, read):
    config = tiny_job().config
    shared_split.share_split(config)
    shared_split.split_of(config).loaded.flow.findings.append(Finding("info", "only of this cell"))
    assert "only of this cell" not in [each.text for each in shared_split.split_of(config).loaded.flow.findings]


def test_nothing_is_shared_where_the_files_that_are_read_are_not_known(tiny_job, read):
    config = tiny_job().config
    own = {**config, "dataset": {**config["dataset"], "_target_": "my_package.read"}}
    shared_split.share_split(own)
    assert not read
    assert not shared_split._KEPT

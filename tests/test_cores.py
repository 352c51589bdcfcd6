import os

import pandas as pd

from lesion_exp.cores import usable_cores
from lesion_exp.data.loaders import resolve_num_workers
from lesion_exp.dataset.image_files import locate_images
from lesion_exp.dataset.source_files import SourceFiles


def test_only_the_cores_that_this_process_may_use_count(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5})
    assert usable_cores() == 3


def test_a_system_that_does_not_tell_the_usable_cores_has_all_of_them(monkeypatch, tmp_path):
    """macOS has no `sched_getaffinity`."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert usable_cores() == 16
    assert resolve_num_workers("auto", on_gpu=True) == 12
    (tmp_path / "a.jpg").write_bytes(b"")
    assert locate_images(pd.Series(["a"]), SourceFiles(tmp_path)).tolist() == [str(tmp_path / "a.jpg")]

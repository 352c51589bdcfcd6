import pytest

from lesion_exp.config.project import Project
from lesion_exp.errors import DataError
from lesion_exp.tracking.find import find_run
from lesion_exp.training import tracked as module
from lesion_exp.training.tracked import job_of, job_tags


def test_a_run_without_files_has_its_job_in_its_tags(tiny_job, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST_TAG", 100)
    job = tiny_job("seed=3", "tags.why='two lines\\nand a quote'")
    tags = job_tags(job)
    assert len(tags) > 10
    assert all(len(text) <= 100 for text in tags.values())
    store = job.project.store
    run_id = store.client.create_run(store.experiment_id("tags"), tags=tags).info.run_id
    read = job_of(find_run(store, run_id))
    assert (read.config, read.job_hash, read.overrides) == (job.config, job.job_hash, job.overrides)
    store.client.delete_tag(run_id, sorted(tags)[-1])
    with pytest.raises(DataError, match="expected the job of run"):
        job_of(find_run(store, run_id))


def test_a_run_with_neither_is_refused(tiny_job):
    store = Project.from_config(tiny_job().config).store
    run_id = store.client.create_run(store.experiment_id("tags")).info.run_id
    with pytest.raises(DataError, match=r"expected config/job\.yaml"):
        job_of(find_run(store, run_id))

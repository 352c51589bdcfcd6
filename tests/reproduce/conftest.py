import pytest

from lesion_exp.job.compose import compose
from lesion_exp.job.freeze import freeze
from lesion_exp.job.run import train
from lesion_exp.job.tracked import open_job_store
from lesion_exp.tracking.find import find_run

TINY = (
    "experiment=demo",
    "image_size=32",
    "dataset.num_lesions=90",
    "dataset.image_height=48",
    "dataset.image_width=64",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.precision=32-true",
    "loader.num_workers=0",
    "evaluation.bootstrap_draws=100",
    "print_config=false",
)


@pytest.fixture(autouse=True)
def no_uri_from_outside(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project folder with one finished run, the job it was made of, and its id."""
    root = tmp_path_factory.mktemp("project")
    job = freeze(compose(TINY, root=root))
    return root, job, train(job).run_id


@pytest.fixture
def first(project):
    """The finished run, as the store has it, and its job."""
    _, job, run_id = project
    return find_run(open_job_store(job.config), run_id), job

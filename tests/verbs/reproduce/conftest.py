import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.tracking.find import find_run
from lesion_exp.training.run import train
from tests.pictures import without_pictures
from tests.tiny import TINY


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project folder with one finished run, the job it was made of, and its id."""
    root = tmp_path_factory.mktemp("project")
    job = freeze(compose(TINY, root=root))
    with without_pictures():
        return root, job, train(job).run_id


@pytest.fixture
def first(project):
    """The finished run, as the store has it, and its job."""
    _, job, run_id = project
    return find_run(job.project.store, run_id), job

import pytest

from lesion_exp.job.compose import compose
from lesion_exp.job.freeze import freeze

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


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory):
    """A project folder for all runs of a session: making a store takes seconds."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture
def tiny_job(shared_root, monkeypatch):
    """Makes a job of a run that trains in seconds."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def make(*overrides, root=shared_root):
        return freeze(compose([*TINY, *overrides], root=root))

    return make

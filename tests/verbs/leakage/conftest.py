import pytest

from lesion_exp.tracking.store import open_store
from lesion_exp.verbs.leakage.plan import plan_meter
from tests.tiny import TINY

FEW = (*(text for text in TINY if not text.startswith("dataset.num_lesions")), "dataset.num_lesions=60")


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project with a store, whose making takes seconds."""
    root = tmp_path_factory.mktemp("leaking")
    open_store(f"sqlite:///{root}/mlruns/mlflow.db", root)
    return root


@pytest.fixture(scope="session")
def plan(project):
    return plan_meter([*FEW, "trainer.max_epochs=1", "loader.batch_size=8"], root=project)

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


@pytest.fixture
def tiny_job(tmp_path, monkeypatch):
    """Makes a job of a run that trains in seconds, in a folder of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def make(*overrides, root=tmp_path):
        return freeze(compose([*TINY, *overrides], root=root))

    return make

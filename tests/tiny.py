"""Overrides of a run that trains in seconds."""

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

import math

import pytest

from lesion_exp.scheduler.schedule import ENDLESS, TrainingLength


@pytest.mark.parametrize(
    ("length", "steps_per_epoch", "total_steps", "num_epochs", "total_batches"),
    [
        (TrainingLength(10, max_epochs=3), 10, 30, 3, 30),
        (TrainingLength(10, 4, max_epochs=3), 3, 9, 3, 30),  # 4, 4 and the 2 batches that are left
        (TrainingLength(10, 16, max_epochs=3), 1, 3, 3, 30),
        (TrainingLength(10, max_epochs=20, max_steps=25), 10, 25, 3, 25),
        (TrainingLength(10, 4, max_epochs=20, max_steps=7), 3, 7, 3, 24),
        (TrainingLength(10, max_epochs=2, max_steps=25), 10, 20, 2, 20),
        (TrainingLength(10, max_epochs=ENDLESS, max_steps=25), 10, 25, 3, 25),
        (TrainingLength(10), 10, math.inf, ENDLESS, math.inf),
    ],
)
def test_the_length_of_a_training(length, steps_per_epoch, total_steps, num_epochs, total_batches):
    assert length.steps_per_epoch == steps_per_epoch
    assert length.total_steps == total_steps
    assert length.num_epochs == num_epochs
    assert length.total_batches == total_batches

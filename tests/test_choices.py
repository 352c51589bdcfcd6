"""What the rooms can do is what the config takes."""

from typing import get_args

import pytest

from lesion_exp import choices
from lesion_exp.augmentation.fit import Fit
from lesion_exp.backbone.surgery import ATTENTIONS
from lesion_exp.data.lesion_dataset import MaskMode
from lesion_exp.evaluation.calibrator import METHODS
from lesion_exp.evaluation.intervals import Unit
from lesion_exp.evaluation.tta import tta_views


@pytest.mark.parametrize(
    ("rooms", "values"),
    [
        (get_args(MaskMode), choices.MASK_MODES),
        (get_args(Fit), choices.FITS),
        (tuple(ATTENTIONS), choices.ATTENTIONS),
        (tuple(METHODS), choices.CALIBRATIONS),
        (get_args(Unit), choices.BOOTSTRAP_UNITS),
    ],
)
def test_a_room_has_every_value_that_the_config_takes(rooms, values):
    assert rooms == values


@pytest.mark.parametrize("name", choices.TTA)
def test_every_test_time_augmentation_has_its_views(name):
    assert callable(tta_views(name))

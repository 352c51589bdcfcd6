"""What processes agree on before they train, and what is said of a run that goes on with others."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.ops import StochasticDepth

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.loss.cross_entropy import CrossEntropy
from lesion_exp.loss.focal import Focal
from lesion_exp.loss.ldam import LDAM
from lesion_exp.loss.soft_f1 import SoftF1
from lesion_exp.pretrain.mae import MAE
from lesion_exp.pretrain.method import BodyFacts
from lesion_exp.training.layout import on_processes
from lesion_exp.training.together import on_each_machine, prepare_layout
from tests.training.test_layout import config


class Depth(torch.nn.Module):
    drop_prob = 0.1


Depth.__name__ = "DropPath"  # timm's class
PLAIN = torch.nn.Linear(2, 2)
MASKED = MAE(BodyFacts(num_features=8, is_convolutional=False, image_size=32, starts_random=True))


@pytest.mark.parametrize(
    ("part", "loss", "weights", "named"),
    [
        (PLAIN, CrossEntropy([3, 5]), None, None),
        (PLAIN, LDAM([3, 5], defer_epoch=1.0), None, None),
        (StochasticDepth(0.0, "row"), Focal([3, 5]), None, None),
        (StochasticDepth(0.2, "row"), CrossEntropy([3, 5]), None, "stochastic depth"),
        (Depth(), CrossEntropy([3, 5]), None, "stochastic depth"),
        (PLAIN, SoftF1([3, 5]), None, "the loss"),
        (PLAIN, LDAM([3, 5]), None, "the loss"),
        (PLAIN, CrossEntropy([3, 5], "balanced"), None, "the loss"),
        (torch.nn.Dropout(0.1), CrossEntropy([3, 5]), torch.ones(8) / 2, "dropout and weights of images"),
        (MASKED, None, None, "random numbers of the method"),
    ],
)
def test_a_warning_names_what_is_computed_over_the_images_of_one_process(caplog, part, loss, weights, named):
    asked = config(2, 1, 4, max_epochs=10)
    task = torch.nn.Module()
    task.part = part
    if loss is not None:
        task.loss = loss
    data = SimpleNamespace(images_per_epoch=lambda: 80, weights=lambda: weights)
    prepare_layout(asked, on_processes(asked, (4, 1)), task, data)
    assert "which are the same images in each step" in caplog.text
    assert (f"warning: {named}: computed over the images of one process" in caplog.text) == (named is not None)
    assert ("warning: " in caplog.text) == (named is not None)
    assert task.asked_processes == 2


def test_a_machine_that_lacks_the_teacher_says_where_the_store_has_to_be():
    def peers(rank):
        return SimpleNamespace(node=rank)

    says = r"^no such run; loss.teacher is read .* set tracking\.uri=http://HOST:5000"
    with pytest.raises(ConfigError, match=says), on_each_machine(peers(1), "loss.teacher"):
        raise DataError("no such run")
    for here in (None, peers(0)):
        with pytest.raises(DataError, match=r"^no such run$"), on_each_machine(here, "loss.teacher"):
            raise DataError("no such run")

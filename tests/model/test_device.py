"""A device predicts without Lightning what Lightning's Trainer predicts, bit for bit."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch.utils.data import DataLoader

from lesion_exp.config.compose import compose
from lesion_exp.config.instantiate import instantiate
from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.errors import ConfigError
from lesion_exp.model.classifier import make_classifier
from lesion_exp.model.device import prediction_device
from lesion_exp.model.network import make_network
from lesion_exp.model.predictor import Batch
from tests.tiny import TINY

CLASSES = ("bcc", "mel", "nv")


@pytest.fixture(scope="module")
def classifier_of(tmp_path_factory):
    """Makes a LightningModule whose weights are always the same."""
    config = compose([*TINY, "backbone=small_cnn", "evaluation.tta=flips8"], root=tmp_path_factory.mktemp("a")).config

    def make():
        torch.manual_seed(0)
        network = make_network(config, len(CLASSES), None)
        pipeline = instantiate(config["augmentation"], "augmentation")
        card = {"classes": list(CLASSES), "metadata": None}
        return make_classifier(config, network, pipeline, card, [1] * len(CLASSES)).eval()

    return make


def batches():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return [Sample(image=pixels[begin : begin + 4], index=torch.arange(10)[begin : begin + 4]) for begin in (0, 4, 8)]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true", "bf16", 32])
def test_the_bits_are_those_of_lightning(classifier_of, precision):
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, precision=precision, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, plugins=[LightningEnvironment()],
    )  # fmt: skip
    expected = trainer.predict(classifier_of(), dataloaders=DataLoader(batches(), batch_size=None))
    device, classifier = prediction_device({"accelerator": "cpu", "precision": precision}), classifier_of()
    assert device.precision == trainer.precision
    device.prepare(classifier)
    for batch, wanted in zip(batches(), expected, strict=True):
        with device.computing():
            found = classifier.predict_batch(device.moved(batch))
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))
    assert torch.get_default_dtype() == torch.float32


def test_gradients_can_be_turned_on_inside_a_prediction_that_allows_them():
    device = prediction_device({"accelerator": "cpu", "precision": "32-true"})
    weight = torch.ones(1, requires_grad=True)
    with device.computing(gradients=True):
        assert not (2 * weight).requires_grad
        with torch.enable_grad():
            assert (2 * weight).requires_grad
    with device.computing(), torch.enable_grad():
        assert torch.is_inference(2 * weight)


def test_what_holds_no_tensor_stays_as_it_is():
    device = prediction_device({"accelerator": "cpu", "precision": "64-true"})
    sample = Sample(image=torch.zeros(1, 3, 2, 2, dtype=torch.uint8), metadata=torch.zeros(1, 2))
    moved = device.moved(Batch(["a", "b"], ["", "no file"], sample))
    assert (type(moved), moved.names, moved.errors) == (Batch, ["a", "b"], ["", "no file"])
    assert moved.sample["image"].dtype == torch.uint8
    assert moved.sample["metadata"].dtype == torch.float64, "as Lightning converts the inputs"
    assert device.moved(Batch(["a"], ["no file"], None)).sample is None


def test_a_precision_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="32-true"):
        prediction_device({"accelerator": "cpu", "precision": "32-bits"})

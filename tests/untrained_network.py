"""Fixtures: a network that was never trained, restored, and a folder of photographs for it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lesion_exp.config.compose import compose
from lesion_exp.config.instantiate import instantiate
from lesion_exp.data.metadata import MetadataEncoder
from lesion_exp.model.classifier import make_classifier
from lesion_exp.model.network import make_network
from lesion_exp.model.restore import restore
from tests.tiny import TINY

CLASSES = ("bcc", "mel", "nv")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """Makes the config and the checkpoint of a run that was never trained."""
    folder = tmp_path_factory.mktemp("untrained")

    def make(*overrides, encoder=None):
        config = compose([*TINY, "backbone=small_cnn", *overrides], root=folder).config
        torch.manual_seed(0)
        card = {"classes": list(CLASSES), "metadata": encoder.to_dict() if encoder else None}
        network = make_network(config, len(CLASSES), encoder)
        pipeline = instantiate(config["augmentation"], "augmentation")
        classifier = make_classifier(config, network, pipeline, card, [1] * len(CLASSES))
        path = folder / f"{len(list(folder.glob('*.ckpt')))}.ckpt"
        torch.save({"state_dict": classifier.state_dict(), "lesion_exp": card}, path)
        return config, path

    return make


@pytest.fixture(scope="session")
def restored(untrained):
    return restore(*untrained())


@pytest.fixture(scope="session")
def restored_with_metadata(untrained):
    encoder = MetadataEncoder(("female", "male"), ("back", "face"))
    return restore(*untrained("backbone.metadata=concat", encoder=encoder))


@pytest.fixture(scope="session")
def vast():
    """A picture of more pixels than are accepted, encoded."""
    buffer = io.BytesIO()
    Image.new("1", (30_000, 20_000)).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def photographs(tmp_path, vast):
    """A folder with eleven images, four broken files, a sub-folder and a note."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(folder / f"good{number}.png")
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).convert("CMYK").save(folder / "more" / "a b.jpg")
    whole = (folder / "good0.png").read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "vast.png").write_bytes(vast)
    (folder / "note.txt").write_text("not for prediction")
    return folder

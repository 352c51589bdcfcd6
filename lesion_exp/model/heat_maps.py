"""Grad-CAM saliency maps of the images that a network gets, and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.explanation.grad_cam import GradCam
from lesion_exp.explanation.network import ExplainedNetwork
from lesion_exp.explanation.saliency_map import overlay
from lesion_exp.image_file import UInt8Array
from lesion_exp.model.predictor import Predictor

_SMALLEST: Final = 224
"""Smallest side of a picture, pixels; smaller images are enlarged."""


class SaliencyMaps:
    """Grad-CAM maps of the images that a network gets.

    They need gradients, so they cannot be computed in torch's inference mode. `layer` is the dotted name of the layer
    whose activations are used; by default it is the last convolutional one.
    """

    def __init__(self, predictor: Predictor, layer: str | None = None) -> None:
        self.classifier = predictor.classifier
        self.method = GradCam(layer)

    def maps(self, sample: Sample, targets: Sequence[int]) -> npt.NDArray[np.float32]:
        """Saliency for the class index in `targets` of each image of a stacked sample, float32 (N, S, S)."""
        images = self.classifier.normalize(sample["image"])
        companions = {"metadata": sample["metadata"]} if "metadata" in sample else {}
        if "clinical" in sample:
            companions["clinical"] = self.classifier.normalize(sample["clinical"])
        network = ExplainedNetwork(self.classifier, self.classifier.backbone.body, companions)
        with torch.autocast(images.device.type, enabled=False):  # gradients of half precision are coarse
            found = self.method(network, images, torch.tensor(targets, device=images.device))
        return np.asarray(found.cpu().numpy(), dtype=np.float32)


def square_of(sample: Sample, place: int) -> UInt8Array:
    """Returns the image number `place` of a stacked sample as the network gets it, uint8 (S, S, 3) RGB."""
    square: UInt8Array = sample["image"][place, :3].permute(1, 2, 0).cpu().numpy()
    return square


def square_png(square: UInt8Array) -> bytes:
    """`square`, uint8 (S, S, 3) RGB, as a PNG file, enlarged if it is small."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(enlarged(square), cv2.COLOR_RGB2BGR))[1].tobytes())


def heat_map_png(square: UInt8Array, saliency: npt.NDArray[np.floating[Any]]) -> bytes:
    """Returns the map `saliency`, float (h, w), drawn over `square`, uint8 (S, S, 3) RGB, as a PNG file of its size."""
    return square_png(overlay(enlarged(square), saliency))


def enlarged(square: UInt8Array) -> UInt8Array:
    """`square`, uint8 (S, S, 3), or an enlarged copy if it is small."""
    side = max(square.shape[0], _SMALLEST)
    return np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)

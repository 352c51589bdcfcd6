"""A run's network as one module from images to probabilities, without the parts that only training needs."""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor, nn

from lesion_exp.evaluation.calibrator import SMALLEST, Calibrator, TemperatureScaling, VectorScaling
from lesion_exp.evaluation.tta import mean_probabilities, tta_views
from lesion_exp.model.restore import Restored
from lesion_exp.verbs.export.network import Photograph

IMAGES: Final = "images"
OUTPUT: Final = "probabilities"


class ExportedNetwork(nn.Module):
    """Computes calibrated probabilities, float32 (N, C), averaged over the views of the test-time augmentation.

    Inputs by position: the images, uint8 (N, H, W, 3) with a `photograph`, else float32 (N, channels, S, S) normalised;
    then the inputs in `others`, in their order.

    Args:
        restored: the network.
        calibrator: temperature or vector scaling; None leaves the probabilities.
        photograph: turns photographs of any size into squares; None expects normalised squares.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, restored: Restored, calibrator: Calibrator | None, photograph: Photograph | None) -> None:
        super().__init__()
        classifier = restored.classifier
        self.photograph = photograph
        self.backbone = copy.deepcopy(classifier.backbone).float().to(memory_format=torch.contiguous_format).eval()
        self.others = other_inputs(restored)
        self.views = tta_views(classifier.options.tta)
        pipeline = restored.pipeline
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (pipeline.mean, pipeline.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.calibration = None if calibrator is None else _Calibration(calibrator)

    def forward(self, images: Tensor, *others: Tensor) -> Tensor:
        """See the class."""
        given = dict(zip(self.others, others, strict=True))

        def logits(view: Tensor) -> Tensor:
            predicted: Tensor = self.backbone(view, given.get("clinical"), given.get("metadata"))
            return predicted

        if self.photograph is not None:
            images = self.photograph(images) * self.scale + self.shift
        probs = mean_probabilities(logits, images, self.views)
        return probs if self.calibration is None else self.calibration(probs)


class _Calibration(nn.Module):
    """softmax(scale * log p + bias), which includes temperature and vector scaling."""

    scale: Tensor
    bias: Tensor

    def __init__(self, calibrator: Calibrator) -> None:
        super().__init__()
        scaling = calibrator.scaling
        assert isinstance(scaling, TemperatureScaling | VectorScaling), "the request was checked"
        if isinstance(scaling, TemperatureScaling):
            scale, bias = [1 / scaling.temperature] * len(calibrator.classes), [0.0] * len(calibrator.classes)
        else:
            scale, bias = list(scaling.scale), list(scaling.bias)
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("bias", torch.tensor(bias))

    def forward(self, probs: Tensor) -> Tensor:
        """Calibrated probabilities (N, C)."""
        return (probs.clamp(min=SMALLEST).log() * self.scale + self.bias).softmax(dim=1)


def other_inputs(restored: Restored) -> tuple[str, ...]:
    """The inputs beside the images: `clinical`, float32 (N, 3, S, S) normalised; `metadata`, float32 (N, D)."""
    clinical = ("clinical",) if restored.preparation.options.clinical else ()
    return (*clinical, *(("metadata",) if restored.encoder is not None else ()))

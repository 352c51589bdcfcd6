"""A run's network as one module from photographs to probabilities, without the parts that only training needs."""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor, nn

from lesion_exp.augmentation.fit import AVERAGE_FROM
from lesion_exp.evaluation.calibrator import SMALLEST, Calibrator, TemperatureScaling, VectorScaling
from lesion_exp.evaluation.tta import mean_probabilities, tta_views
from lesion_exp.model.restore import Restored

FITS: Final = ("crop", "squash")
"""The supported values of `fit`; `pad`, which averages twice, is not supported."""
_UNIT: Final = 2048
"""OpenCV weights two neighbours in units of 1 / 2048."""
_PILLOWS_UNIT: Final = 1 << 22
"""Pillow weights pixels in units of 1 / 2^22."""
_REACH: Final = {"bicubic": 2, "lanczos": 3}
"""Support of Pillow's filters, in pixels of the smaller of the two images."""
IMAGES: Final = "images"
OUTPUT: Final = "probabilities"


class Photograph(nn.Module):
    """Turns photographs, uint8 (N, H, W, 3) RGB, into squares, float32 (N, 3, S, S), with whole values up to 255.

    It does what `Preparation` does with a file: the image is averaged down to a short side, framed, and resized with
    the rounding of OpenCV (`bilinear`) or Pillow (`bicubic`, `lanczos`). Each axis is multiplied by matrices whose
    entries follow from H and W alone, so that an exported graph takes photographs of any size.

    Args:
        short_side: short side of the image before it is framed, in pixels; smaller images are not enlarged.
        image_size: side S of the square in pixels; `short_side` is less than 1.5 of it.
        fit: one of `FITS`, see `AugmentationPipeline`; `crop` with an interpolation other than `bilinear`.
        interpolation: see `AugmentationPipeline`.
        crop_share: see `AugmentationPipeline`.
    """

    def __init__(
        self, short_side: int, image_size: int, fit: str, interpolation: str = "bilinear", crop_share: float = 1.0
    ) -> None:
        super().__init__()
        assert fit in FITS, "the request was checked"
        assert interpolation == "bilinear" or fit == "crop", "the request was checked"
        assert short_side < AVERAGE_FROM * image_size, "the request was checked"
        self.short_side = short_side
        self.image_size = image_size
        self.fit = fit
        self.interpolation = interpolation
        self.crop_share = crop_share

    def forward(self, photographs: Tensor) -> Tensor:
        """See the class."""
        height, width = _length(photographs[0, :, 0, 0]), _length(photographs[0, 0, :, 0])
        axis = self._two_neighbours if self.interpolation == "bilinear" else self._all_pixels
        down, below = axis(height, width, photographs.shape[1])
        across, right = axis(width, height, photographs.shape[2])
        pixels = photographs.permute(0, 3, 1, 2).float()
        averaged = torch.matmul(torch.matmul(down, pixels), across.transpose(0, 1)).double()
        halved = (height == 2 * self._shrunk(height, width)) & (width == 2 * self._shrunk(width, height))
        kept = torch.where(halved, torch.floor(averaged + 0.5), torch.round(averaged))  # OpenCV's own for a half
        if self.interpolation != "bilinear":
            return _clipped(torch.matmul(below, _clipped(torch.matmul(kept, right.transpose(0, 1))))).float()
        side = self.image_size
        (left, right), (above, below) = ((torch.round((1 - s) * _UNIT), torch.round(s * _UNIT)) for s in (right, below))
        rows = torch.floor((kept[:, :, :, :side] * left + kept[:, :, :, side:] * right) / 16)
        first = torch.floor(rows[:, :, :side] * above[:, None] / 65536)
        second = torch.floor(rows[:, :, side:] * below[:, None] / 65536)
        return torch.floor((first + second + 2) / 4).float()

    def _all_pixels(self, own: Tensor, other: Tensor, num_pixels: int) -> tuple[Tensor, Tensor]:
        """The weights of an axis with `own` pixels: float32 (F, own), how the pixels of the largest frame are averaged,
        and float64 (S, F), whole numbers, the weight of each of them in each pixel of the square.
        """
        start, frame = self._framed(own, other)
        places = torch.arange(max(round(self.short_side * self.crop_share), 1), dtype=torch.float64)
        scale = frame / self.image_size
        wider = scale.clamp(min=1)
        reach = _REACH[self.interpolation] * wider
        centre = ((torch.arange(self.image_size, dtype=torch.float64) + 0.5) * scale)[:, None]
        first = torch.floor(centre - reach + 0.5).clamp(min=0)
        last = torch.minimum(torch.floor(centre + reach + 0.5), frame)
        weights = self._filter((places + 0.5 - centre) / wider) * ((places >= first) & (places < last))
        weights = torch.round(weights / weights.sum(dim=1, keepdim=True) * _PILLOWS_UNIT)
        return self._averages(torch.minimum(places, frame - 1) + start, own, other, num_pixels), weights

    def _filter(self, distance: Tensor) -> Tensor:
        """Pillow's weight of a pixel at `distance`."""
        far = distance.abs()
        if self.interpolation == "lanczos":
            return torch.where(far < 3, torch.sinc(distance) * torch.sinc(distance / 3), 0.0)
        near, beyond = (1.5 * far - 2.5) * far * far + 1, ((-0.5 * far + 2.5) * far - 4) * far + 2
        return torch.where(far < 1, near, torch.where(far < 2, beyond, 0.0))

    def _two_neighbours(self, own: Tensor, other: Tensor, num_pixels: int) -> tuple[Tensor, Tensor]:
        """The weights of an axis with `own` pixels: float32 (2 S, own), how the first and the second neighbour of each
        pixel of the square are averaged, and float64 (S,), the share of the second neighbour.
        """
        start, frame = self._framed(own, other)
        place = (torch.arange(self.image_size, dtype=torch.float64) + 0.5) * (frame / self.image_size) - 0.5
        low = torch.floor(place)
        share = torch.where((low < 0) | (low >= frame - 1), 0.0, place - low)
        low = torch.minimum(low.clamp(min=0), frame - 1)
        neighbours = torch.cat([low, torch.minimum(low + 1, frame - 1)]) + start
        return self._averages(neighbours, own, other, num_pixels), share

    def _framed(self, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """First pixel and length of the frame along an axis of the shrunk photograph."""
        shrunk, others = self._shrunk(own, other), self._shrunk(other, own)
        frame = torch.minimum(shrunk, others) if self.fit == "crop" else shrunk
        if self.crop_share < 1:
            frame = torch.round(frame * self.crop_share).clamp(min=1)
        return torch.floor((shrunk - frame) / 2), frame

    def _averages(self, neighbours: Tensor, own: Tensor, other: Tensor, num_pixels: int) -> Tensor:
        """float32 (neighbours, own): how much each pixel of an axis counts in those of the shrunk photograph."""
        factor = own / self._shrunk(own, other)
        begin = (neighbours * factor)[:, None]
        end = torch.minimum(begin + factor, own)
        pixel = torch.arange(num_pixels, dtype=torch.float64)[None, :]
        covered = (torch.minimum(end, pixel + 1) - torch.maximum(begin, pixel)).clamp(min=0)
        return (covered / covered.sum(dim=1, keepdim=True)).float()

    def _shrunk(self, own: Tensor, other: Tensor) -> Tensor:
        """The pixels of an axis when the shorter axis has `short_side` pixels; no image is enlarged."""
        least = torch.minimum(own, other)
        scaled = torch.round(own * (self.short_side / least)).clamp(min=self.short_side)
        return torch.where(least > self.short_side, scaled, own)


def _clipped(weighted: Tensor) -> Tensor:
    """Rounds a sum of weighted pixels as Pillow does, to whole numbers from 0 to 255."""
    return torch.floor((weighted + _PILLOWS_UNIT / 2) / _PILLOWS_UNIT).clamp(0, 255)


def _length(line: Tensor) -> Tensor:
    """The length of `line`, (L,), as a float64 () tensor, so that a traced graph computes it for each image."""
    return torch.ones_like(line, dtype=torch.float64).sum()


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
    """Returns the inputs beside the images: `clinical`, float32 (N, 3, S, S) normalised; `metadata`, float32 (N, D)."""
    clinical = ("clinical",) if restored.preparation.options.clinical else ()
    return (*clinical, *(("metadata",) if restored.encoder is not None else ()))

"""From an image file to what a network sees of it, without a store: the very pixels that a store would give."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.data.lesion_dataset import Sample, SampleOptions, network_input
from lesion_exp.errors import DataError
from lesion_exp.image_file import UInt8Array, decode, read_image, read_mask


@dataclass(frozen=True)
class Preparation:
    """The steps of a run's test part, nothing random."""

    pipeline: AugmentationPipeline
    options: SampleOptions
    short_side: int
    """Of a stored image, in pixels: from that size the pipeline starts."""

    @property
    def companions(self) -> tuple[str, ...]:
        """The columns that name the pictures that the network sees beside the image itself."""
        mask = ("mask_path",) if self.options.mask != "none" else ()
        return (*mask, *(("clinical_path",) if self.options.clinical else ()))

    def from_files(self, image_path: str, mask_path: str | None = None, clinical_path: str | None = None) -> Sample:
        """The images of a sample, from their locators.

        Raises:
            DataError: a file cannot be read, or one is missing that the network needs.
        """
        image = read_image(image_path, self.short_side)
        mask = None
        if self.options.mask != "none":
            if mask_path is None or pd.isna(mask_path):
                raise DataError("it has no lesion mask, which dataset.mask needs")
            mask = read_mask(mask_path, (image.shape[0], image.shape[1]))
        sample = Sample(image=self._input(image, mask))
        if self.options.clinical:
            if clinical_path is None or pd.isna(clinical_path):
                raise DataError("it has no clinical photograph, which dataset.view=both needs")
            sample["clinical"] = self._input(read_image(clinical_path, self.short_side), None)
        return sample

    def from_bytes(self, encoded: bytes, name: str) -> Sample:
        """The image of a sample, from the encoded bytes of a file; for networks that see nothing else.

        Raises:
            DataError: it cannot be decoded; `name` says which it is.
        """
        assert not self.companions, "the network needs further pictures"
        return Sample(image=self._input(decode(encoded, self.short_side, name), None))

    def _input(self, image: UInt8Array, mask: UInt8Array | None) -> Tensor:
        return network_input(image, mask, self.options, self.pipeline.evaluate)

"""Test images changed in a way that should not matter: an image store that shows them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lesion_exp.artefacts import draw_dark_corner, draw_hair, draw_ink, draw_ruler
from lesion_exp.augmentation.fit import Fit, cut, frame_size
from lesion_exp.data.store import ImageStore
from lesion_exp.image_file import UInt8Array, read_mask
from lesion_exp.verbs.shortcuts.paint_out import paint_out

Draw = Callable[[UInt8Array, np.random.Generator], UInt8Array]


@dataclass(frozen=True)
class Insertion:
    """A thing that is drawn into an image."""

    words: str
    draw: Draw


INSERTIONS: Final[Mapping[str, Insertion]] = {
    "ruler": Insertion("a ruler along an edge", draw_ruler),
    "ink": Insertion("two strokes of a surgical marker", draw_ink),
    "hair": Insertion("twelve hairs", draw_hair),
    "dark_corner": Insertion("the dark corners of a dermatoscope", draw_dark_corner),
}
CONTROL: Final = "mirrored"
"""Left and right exchanged: it changes no finding, so what it flips is the network's own unsteadiness."""
PAINTED: Final = "painted_out"
PLAIN: Final = "plain"


class ChangedStore(ImageStore):
    """The images of a store, each changed as `change` says, a function of the image's id and `seed` alone.

    An image is first cut to the part of it that the network's evaluation shows, so that nothing is drawn where it would
    not be seen.

    Args:
        store: what is changed.
        change: `plain`, `mirrored`, `painted_out` or one of `INSERTIONS`.
        fit: how evaluation makes an image a square.
        masks: image id -> locator of the lesion mask, for `painted_out`.
        seed: of what is drawn.
    """

    def __init__(
        self, store: ImageStore, change: str, fit: Fit, masks: Mapping[str, str] | None = None, seed: int = 0
    ) -> None:
        assert change in {PLAIN, CONTROL, PAINTED, *INSERTIONS}, change
        super().__init__(store.folder)
        self.change, self.fit, self.masks, self.seed = change, fit, dict(masks or {}), seed
        self.ids = [str(image_id) for image_id in self.image_ids]

    def read(self, row: int, plane: str = "pixels") -> UInt8Array:
        """As in the store, but changed."""
        image = self._seen(super().read(row, plane))
        if self.change == CONTROL:
            return np.ascontiguousarray(image[:, ::-1])
        if self.change == PLAIN or plane != "pixels":
            return image
        rng = np.random.default_rng([self.seed, zlib.crc32(self.ids[row].encode())])
        if self.change == PAINTED:
            whole = super().read(row, plane).shape
            return paint_out(image, self._seen(read_mask(self.masks[self.ids[row]], (whole[0], whole[1]))), rng)
        return INSERTIONS[self.change].draw(np.ascontiguousarray(image), rng)

    def _seen(self, image: UInt8Array) -> UInt8Array:
        if self.fit != "crop":
            return image
        height, width = frame_size(image.shape, self.fit)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return cut(image, top, left, (height, width), 0)

"""Changes of images that should not matter, and an image store that applies them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from lesion_exp.augmentation.fit import Fit, cut, frame_size
from lesion_exp.data.store import ImageStore
from lesion_exp.image_file import UInt8Array, read_mask
from lesion_exp.synthetic_artefacts import draw_dark_corner, draw_hair, draw_ink, draw_ruler

MARGIN: Final = 0.05
"""The margin of the painted area around the mask, as a share of the shorter side, because masks are often too small."""
FEATHER: Final = 0.01
"""The width of the transition to the unchanged skin, as a share of the shorter side."""

Float = npt.NDArray[np.float32]


def paint_out(image: UInt8Array, mask: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Returns `image` with the lesion replaced by the colours of the skin around it.

    The colours are interpolated smoothly by a pyramid of means (push-pull: Gortler et al. 1996,
    doi:10.1145/237170.237200), with added noise like that of the skin, so that no silhouette remains. If the lesion
    covers the whole image, this gets the 90% quantile of its colours.

    Args:
        image: uint8 (H, W, 3).
        mask: uint8 (H, W), 255 in the lesion, else 0.
        rng: source of the noise.
    """
    side = min(image.shape[:2])
    reach = max(1, round(MARGIN * side))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    lesion = np.asarray(cv2.dilate(mask, disc), dtype=np.uint8) > 0
    if lesion.all():
        lesion = mask > 0
    pixels = image.astype(np.float32)
    if lesion.all():
        skin = np.full_like(pixels, np.percentile(pixels.reshape(-1, 3), 90, axis=0))
    else:
        skin = _filled(pixels, (~lesion).astype(np.float32)) + _grain(pixels, ~lesion, rng)
    alpha = np.asarray(cv2.GaussianBlur(lesion.astype(np.float32), (0, 0), max(FEATHER * side, 0.5)))
    alpha = np.maximum(alpha, lesion)[:, :, None]
    return np.asarray(np.clip(pixels * (1 - alpha) + skin * alpha + 0.5, 0, 255), dtype=np.uint8)


def _filled(pixels: Float, known: Float) -> Float:
    """`pixels`, (H, W, 3), where `known`, (H, W), is 1, and smoothly interpolated colours elsewhere."""
    if known.min() > 0:
        return pixels
    half = (max(1, (known.shape[1] + 1) // 2), max(1, (known.shape[0] + 1) // 2))
    weight = np.asarray(cv2.resize(known, half, interpolation=cv2.INTER_AREA), dtype=np.float32)
    colour = np.asarray(cv2.resize(pixels * known[:, :, None], half, interpolation=cv2.INTER_AREA), dtype=np.float32)
    means = (colour / np.maximum(weight, 1e-6)[:, :, None]).astype(np.float32)
    coarse = _filled(means, (weight > 0).astype(np.float32))
    smooth = np.asarray(cv2.resize(coarse, known.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return np.where(known[:, :, None] > 0, pixels, smooth)


def _grain(pixels: Float, skin: npt.NDArray[np.bool_], rng: np.random.Generator) -> Float:
    """Noise, (H, W, 1), with the standard deviation of the finest details of the skin."""
    grey = pixels.mean(axis=2)
    detail = grey - np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0))
    strength = float(np.median(np.abs(detail[skin]))) / 0.6745  # robust standard deviation, which ignores hairs
    return np.asarray(rng.normal(0, strength, (*grey.shape, 1)), dtype=np.float32)


Draw = Callable[[UInt8Array, np.random.Generator], UInt8Array]


@dataclass(frozen=True)
class Insertion:
    """An artefact that is drawn into an image."""

    words: str
    draw: Draw


INSERTIONS: Final[Mapping[str, Insertion]] = {
    "ruler": Insertion("a ruler along an edge", draw_ruler),
    "ink": Insertion("two strokes of a surgical marker", draw_ink),
    "hair": Insertion("twelve hairs", draw_hair),
    "dark_corner": Insertion("the dark corners of a dermatoscope", draw_dark_corner),
}
PHOTOGRAPHS: Final = ("pixels", "clinical")
"""The planes of a store that are photographs: the image, and the clinical photograph of `dataset.view=both`."""
CONTROL: Final = "mirrored"
"""The images are mirrored. This changes no diagnosis, so it measures how unstable the predictions are in general."""
PAINTED: Final = "painted_out"
PLAIN: Final = "plain"


class ChangedStore(ImageStore):
    """The images of a store with a change, which is a function of the id of the image and of `seed`.

    Both photographs of a lesion are changed, if the network sees two. Lesion masks belong to the first of them, so that
    `painted_out` leaves one colour of the clinical photograph.

    An image is first cropped to the part that the network sees in evaluation, so that artefacts are drawn where they
    are visible.

    Args:
        store: the images to change.
        change: `plain`, `mirrored`, `painted_out` or one of `INSERTIONS`.
        fit: the way in which evaluation makes images square.
        share: the share of the sides of the frame of `fit` that evaluation shows.
        masks: the locator of the lesion mask by image id, for `painted_out`, as `UsableMasks.places` has it.
        seed: seed of the artefacts.
    """

    def __init__(
        self,
        store: ImageStore,
        change: str,
        fit: Fit,
        masks: Mapping[str, str] | None = None,
        seed: int = 0,
        share: float = 1.0,
    ) -> None:
        assert change in {PLAIN, CONTROL, PAINTED, *INSERTIONS}, change
        super().__init__(store.folder)
        self.change, self.fit, self.masks, self.seed = change, fit, dict(masks or {}), seed
        self.share = share
        self.ids = [str(image_id) for image_id in self.image_ids]

    def read(self, row: int, plane: str = "pixels") -> UInt8Array:
        """Returns the changed image or plane of a row."""
        image = self._seen(super().read(row, plane))
        if self.change == CONTROL:
            return np.ascontiguousarray(image[:, ::-1])
        if self.change == PLAIN or plane not in PHOTOGRAPHS:
            return image
        rng = np.random.default_rng([self.seed, zlib.crc32(self.ids[row].encode()), PHOTOGRAPHS.index(plane)])
        if self.change == PAINTED:
            return paint_out(image, self._mask(row, plane, image), rng)
        return self._inserted(image, rng)

    def _mask(self, row: int, plane: str, image: UInt8Array) -> UInt8Array:
        """The mask of the lesion in `image`, or of the whole photograph where none says where the lesion is."""
        if plane != PHOTOGRAPHS[0]:
            return np.full(image.shape[:2], 255, dtype=np.uint8)
        height, width = super().read(row, plane).shape[:2]
        return self._seen(read_mask(self.masks[self.ids[row]], (height, width), any_proportions=True))

    def _inserted(self, image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
        """`image` with what is drawn into the part of it that evaluation shows."""
        height, width = (max(round(side * self.share), 1) for side in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        shown = np.ascontiguousarray(image[top : top + height, left : left + width])
        whole = image.copy()
        whole[top : top + height, left : left + width] = INSERTIONS[self.change].draw(shown, rng)
        return whole

    def _seen(self, image: UInt8Array) -> UInt8Array:
        if self.fit != "crop":
            return image
        height, width = frame_size(image.shape, self.fit)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return cut(image, top, left, (height, width), 0)

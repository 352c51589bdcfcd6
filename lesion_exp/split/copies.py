"""Copies of a picture that were cropped or drawn over, found by local features and verified by their geometry.

Perceptual hashes (`groups.near_duplicate_pairs`) describe a picture as a whole, so they do not find copies that were
cropped or covered. Local features describe small areas, of which many remain in such a copy. Each picture has up to 250
features (SIFT: Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94; square roots of the descriptors: Arandjelovic and
Zisserman 2012, doi:10.1109/CVPR.2012.6248018). Pictures that share rare features, by the signs of random projections
(Charikar 2002, doi:10.1145/509907.509965), are candidates; a candidate is a copy if enough features lie where one
shift, rotation and scale puts them.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.image_file import UInt8Array

SIDE: Final = 200
"""Longer side, in pixels, to which a picture is reduced first."""
MOST_FEATURES: Final = 250
"""Greatest number of features of a picture, those with the most contrast."""
LEAST_INLIERS: Final = 12
"""Smallest number of features that agree on one shift, rotation and scale in copies of a picture."""
LEAST_VOTES: Final = 3
"""Smallest number of equal codes of two candidates."""
NUM_TABLES: Final = 4
"""Codes of each feature, by different projections. Any of them may be equal."""
MOST_SHARING: Final = 30
"""Greatest number of features with the same code that are compared. Codes that more features have carry no
information, and this bounds the time: it grows with the number of pictures."""
BITS: Final = 32
"""Bits of a code for up to `FEW_PICTURES`; one more for each doubling, so that as many features share a code."""
FEW_PICTURES: Final = 10_000
_MOST_BITS: Final = 64
_RATIO: Final = 0.85
"""Greatest distance of a feature to its match, as a share of its distance to the second-best one."""
_TOLERANCE: Final = 3.0
"""Greatest distance, in pixels, of a feature from where the common movement puts it."""
_SCALES: Final = (0.3, 3.0)
"""Smallest and greatest scale between copies."""
_FEW: Final = 4
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class Features(NamedTuple):
    """The local features of a picture."""

    points: Float32Array
    """Their places (F, 2) in the reduced picture, x and y in pixels."""
    described: UInt8Array
    """The descriptors, uint8 (F, 128), as SIFT returns them."""

    @property
    def descriptors(self) -> Float32Array:
        """The square roots of the descriptors, float32 (F, 128), each of length 1."""
        described = self.described.astype(np.float32)
        return np.asarray(np.sqrt(described / np.maximum(described.sum(axis=1, keepdims=True), 1e-6)))


def local_features(image: UInt8Array) -> Features:
    """Returns the local features of `image`, uint8 (H, W, 3) RGB."""
    shrunk = SIDE / max(image.shape[:2])
    if shrunk < 1:
        image = np.asarray(cv2.resize(image, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    found, described = _detector().detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    if not found:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    points = np.array([point.pt for point in found[:MOST_FEATURES]], dtype=np.float32)
    return Features(points, np.asarray(described[:MOST_FEATURES], dtype=np.uint8))


class FeatureFile:
    """The features of pictures in a file that is deleted with this object. A picture takes 34 kB.

    Args:
        scratch: the folder of the file; None is the system's folder of temporary files.
    """

    def __init__(self, scratch: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - it is open as long as this object lives
        self._places: list[tuple[int, int]] = []

    def append(self, features: Features) -> None:
        """Adds the features of the next picture."""
        self._places.append((self._file.seek(0, os.SEEK_END), len(features.points)))
        self._file.write(features.points.tobytes() + features.described.tobytes())

    @property
    def counts(self) -> list[int]:
        """The number of features of each picture."""
        return [count for _, count in self._places]

    def __getitem__(self, place: int) -> Features:
        start, count = self._places[place]
        self._file.seek(start)
        points = np.frombuffer(self._file.read(8 * count), np.float32).reshape(count, 2)
        return Features(points, np.frombuffer(self._file.read(128 * count), np.uint8).reshape(count, 128))


def copied_pairs(
    read: Callable[[int], UInt8Array],
    count: int,
    progress: Callable[[int, int], None] | None = None,
    scratch: Path | None = None,
) -> pd.DataFrame:
    """Returns the pairs of pictures of which one is a copy of the other, also a cropped one or one with hair over it.

    Args:
        read: returns picture 0 to count - 1, uint8 (H, W, 3) RGB.
        count: the number of pictures.
        progress: is called with the number of pictures whose features are known, and `count`.
        scratch: see `FeatureFile`.

    Returns:
        A table with `first` and `second` (first < second) and `inliers`, the number of features that agree.
    """
    known = FeatureFile(scratch)
    for place in range(count):
        known.append(local_features(read(place)))
        if progress is not None:
            progress(place + 1, count)
    bits = min(BITS + math.ceil(math.log2(max(count / FEW_PICTURES, 1))), _MOST_BITS)
    projections = np.random.default_rng(0).normal(size=(NUM_TABLES, 128, _MOST_BITS))[:, :, :bits].astype(np.float32)
    centre = _centre(known, count)
    picture = np.repeat(np.arange(count), known.counts)
    codes = np.empty((len(picture), NUM_TABLES), np.uint64)  # once in memory: gigabytes for 400,000 pictures
    ends = np.cumsum(known.counts)
    for place in range(count):
        own = known[place]
        codes[ends[place] - len(own.points) : ends[place]] = _codes(own.descriptors - centre, projections)
    first, second = _candidates(codes, picture, count)
    inliers = np.array([agreeing(known[a], known[b]) for a, b in zip(first, second, strict=True)], dtype=np.int64)
    kept = inliers >= LEAST_INLIERS
    return pd.DataFrame({"first": first[kept], "second": second[kept], "inliers": inliers[kept]})


def agreeing(one: Features, other: Features) -> int:
    """Returns the number of features of two pictures that agree on one shift, rotation and scale."""
    if min(len(one.points), len(other.points)) < _FEW:
        return 0
    likeness = one.descriptors @ other.descriptors.T
    best = likeness.argmax(axis=1)
    rows = np.arange(len(best))
    value = likeness[rows, best]
    mutual = likeness.argmax(axis=0)[best] == rows
    likeness[rows, best] = -1
    clear = 1 - value < _RATIO**2 * (1 - likeness.max(axis=1))  # squared distances are 2 - 2 * likeness
    kept = mutual & clear
    if kept.sum() < _FEW:
        return 0
    movement, agrees = cv2.estimateAffinePartial2D(
        one.points[kept], other.points[best[kept]], ransacReprojThreshold=_TOLERANCE, maxIters=500
    )
    if movement is None or not _SCALES[0] <= np.hypot(movement[0, 0], movement[1, 0]) <= _SCALES[1]:
        return 0
    return int(agrees.sum())


@lru_cache(maxsize=1)
def _detector() -> Any:
    return cv2.SIFT.create(nfeatures=MOST_FEATURES, contrastThreshold=0.003, edgeThreshold=20)


def _centre(known: FeatureFile, count: int, most: int = 200) -> Float32Array:
    """Returns the mean descriptor of up to `most` pictures, float32 (128,)."""
    places = np.random.default_rng(0).permutation(count)[:most]
    found = np.concatenate([known[int(place)].descriptors for place in places])
    return np.asarray(found.mean(axis=0) if len(found) else np.zeros(128), dtype=np.float32)


def _codes(descriptors: Float32Array, projections: Float32Array) -> npt.NDArray[np.uint64]:
    """Returns the codes of each feature, uint64 (F, NUM_TABLES): signs by `projections` (NUM_TABLES, 128, bits)."""
    weights = np.uint64(1) << np.arange(projections.shape[2], dtype=np.uint64)
    return np.stack([(descriptors @ each > 0) @ weights for each in projections], axis=1)


def _candidates(codes: npt.NDArray[np.uint64], picture: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Returns the pairs of pictures with at least `LEAST_VOTES` equal codes; `codes` are (F, NUM_TABLES)."""
    shared = [keys for table in codes.T for keys in _sharing(table, picture, count)]
    if not shared:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    pairs, votes = np.unique(np.concatenate(shared), return_counts=True)
    pairs = pairs[votes >= LEAST_VOTES]
    return pairs // count, pairs % count


def _sharing(table: npt.NDArray[np.uint64], picture: IntArray, count: int) -> Iterator[IntArray]:
    """Yields `first * count + second` for each two features of different pictures with the same code."""
    order = np.argsort(table, kind="stable")
    sorted_codes, owner = table[order], picture[order]
    start = np.flatnonzero(np.concatenate([[True], sorted_codes[1:] != sorted_codes[:-1]]))
    size = np.diff(np.append(start, len(sorted_codes)))
    for number in range(2, MOST_SHARING + 1):
        members = owner[start[size == number][:, None] + np.arange(number)]
        one, other = np.triu_indices(number, 1)
        first, second = members[:, one].ravel(), members[:, other].ravel()  # in order, since the sort is stable
        yield (first * count + second)[first != second]

"""The groups of images that must stay together in a split, and the near-duplicates that belong to one group."""

from __future__ import annotations

import hashlib
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lesion_exp.errors import ConfigError
from lesion_exp.fingerprint import HASH_SIDE, THUMBNAIL_SIDE

DEFAULT_THRESHOLD: Final = 0.985
"""Smallest correlation of two thumbnails of the same picture; chosen by looking at pairs of HAM10000."""
MAX_DISTANCE: Final = 6
"""Greatest number of differing bits of two candidates' hashes. Six bits leave two of the eight bands equal."""
MIN_CONTRAST: Final = 4.0
"""Smallest standard deviation of a thumbnail in grey levels. Thumbnails with less contrast correlate by chance."""
NUM_BANDS: Final = 8
"""Parts of the hash that are compared for equality."""
MAX_BUCKET: Final = 10_000
"""Greatest number of images with two equal bands that are compared pairwise. Bands that more images share carry no
information."""
CHUNK: Final = 1_000_000
"""Candidates whose hashes are compared together, which limits the memory."""
ROWS: Final = 20_000
"""Thumbnails that are made floating-point numbers together, which limits the memory."""
_MOST_KNOWN: Final = 4
_KNOWN: Final[dict[bytes, pd.DataFrame]] = {}
"""The pairs of the last few sets of pictures, by a digest of pictures and threshold."""
UInt64Array = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]
COPY_ID: Final = "copy_id"
"""Column with the first image of the copies of a picture that local features find (`copies`); missing for images that
have none. Only tables for which they were searched have it."""
IDENTITIES: Final = ("image_id", "shared_image_id", "lesion_id", "patient_id", "sha256", COPY_ID)
"""Columns in which an equal value puts two images into one group."""


def near_duplicate_pairs(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Returns the pairs of rows that show the same picture.

    Candidates are pairs whose 64-bit perceptual hashes, after any of the eight symmetries of the square, differ in at
    most 6 bits. A candidate is a near-duplicate if the correlation of the thumbnails is at least `threshold`. A copy
    that was shifted, or cropped by more than about 2%, is not found; see `copies` for these.

    Candidates are found by two equal bands of 8 bits, so the time depends on the number of images with equal bands and
    not on all pairs: less than a second on one core for 10,000 dermoscopic images, about a minute and 2 GB for 400,000.

    Args:
        table: a table with `phash` and `thumbnail`, see `lesion_exp.fingerprint`.
        threshold: smallest correlation of the thumbnails of a pair, above 0 and at most 1.

    Returns:
        A table with `first` and `second` (positions in `table`) and `correlation`.

    Raises:
        ConfigError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"expected split.near_duplicate_threshold above 0 up to 1, got {threshold}; 0.985 is the default"
        )
    hashes = table["phash"].to_numpy(np.uint64)
    thumbnails = np.frombuffer(b"".join(table["thumbnail"]), dtype=np.uint8).reshape(len(table), -1)
    usable = np.flatnonzero(_have_contrast(thumbnails))
    found: list[pd.DataFrame] = []
    for symmetry in range(8):
        turned_hashes = _symmetric_hashes(hashes, symmetry)
        first, second = _candidates(hashes[usable], turned_hashes[usable], same=symmetry == 0)
        first, second = usable[first], usable[second]
        correlation = np.concatenate(
            [
                np.einsum(
                    "ij,ij->i",
                    _standardized(thumbnails[first[part]]),
                    _symmetric_thumbnails(_standardized(thumbnails[second[part]]), symmetry),
                )
                for part in _parts(len(first))
            ]
        )
        kept = correlation >= threshold
        found.append(pd.DataFrame({"first": first[kept], "second": second[kept], "correlation": correlation[kept]}))
    pairs = pd.concat(found, ignore_index=True)
    ends = np.sort(pairs[["first", "second"]].to_numpy(np.int64), axis=1)
    pairs[["first", "second"]] = ends
    pairs = pairs.sort_values(["first", "second", "correlation"], ascending=[True, True, False], ignore_index=True)
    return pairs.drop_duplicates(["first", "second"], ignore_index=True)


def known_pairs(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Returns the `near_duplicate_pairs` of `table`; those of the same pictures, in any order, are computed once.

    Groups and audit of one split need the same pairs, and so do the splits of one data set.
    """
    pictures = list(zip(table["phash"].tolist(), table["thumbnail"].tolist(), strict=True))
    order = np.array(sorted(range(len(pictures)), key=pictures.__getitem__), dtype=np.int64)
    digest = hashlib.sha256(f"{threshold} ".encode())
    for place in order:
        digest.update(b"%d %b\n" % pictures[place])
    key = digest.digest()
    if key not in _KNOWN:
        _KNOWN[key] = near_duplicate_pairs(table.iloc[order], threshold)
        if len(_KNOWN) > _MOST_KNOWN:
            del _KNOWN[next(iter(_KNOWN))]
    pairs = _KNOWN[key].copy()
    pairs[["first", "second"]] = np.sort(order[pairs[["first", "second"]].to_numpy(np.int64)], axis=1)
    return pairs.sort_values(["first", "second"], ignore_index=True)


def _candidates(hashes: UInt64Array, turned: UInt64Array, *, same: bool) -> tuple[IntArray, IntArray]:
    """Returns pairs (a, b), with a < b if `same`, such that hashes[a] and turned[b] differ in at most 6 bits."""
    bits = np.uint64(64 // NUM_BANDS)
    mask = np.uint64(2 ** (64 // NUM_BANDS) - 1)
    pairs: list[npt.NDArray[np.int64]] = []
    for low, high in combinations(range(NUM_BANDS), 2):
        keys = [
            ((values >> (np.uint64(low) * bits)) & mask) << bits | ((values >> (np.uint64(high) * bits)) & mask)
            for values in (hashes, turned)
        ]
        pairs.append(_joined(keys[0], keys[1], hashes, turned, same=same))
    joined = np.unique(np.concatenate(pairs), axis=0)
    return joined[:, 0], joined[:, 1]


def _joined(
    left: UInt64Array, right: UInt64Array, hashes: UInt64Array, turned: UInt64Array, *, same: bool
) -> npt.NDArray[np.int64]:
    """Returns pairs with equal keys whose hashes differ in at most `MAX_DISTANCE` bits, int64 (P, 2)."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    start, end = np.searchsorted(ordered, left, "left"), np.searchsorted(ordered, left, "right")
    count = end - start
    count[count > MAX_BUCKET] = 0
    pairs: list[npt.NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    ends = np.searchsorted(np.cumsum(count), np.arange(CHUNK, count.sum() + CHUNK, CHUNK), "right")
    for chunk in np.split(np.arange(len(left)), ends[:-1]):
        number = count[chunk]
        first = np.repeat(chunk, number)
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        second = order[np.repeat(start[chunk], number) + within]
        kept = (first < second) if same else (first != second)
        kept &= np.bitwise_count(hashes[first] ^ turned[second]) <= MAX_DISTANCE
        pairs.append(np.stack([first[kept], second[kept]], axis=1))
    return np.concatenate(pairs)


def _parts(count: int) -> list[IntArray]:
    """Returns the numbers below `count` in arrays of about `ROWS`; a single empty one if there are none."""
    return np.array_split(np.arange(count), max(-(-count // ROWS), 1))


def _have_contrast(thumbnails: UInt8Array) -> npt.NDArray[np.bool_]:
    """Returns which thumbnails have enough contrast to be compared, from grey levels (N, 256)."""
    return np.concatenate(
        [thumbnails[part].astype(np.float32).std(axis=1) >= MIN_CONTRAST for part in _parts(len(thumbnails))]
    )


def _standardized(thumbnails: UInt8Array) -> npt.NDArray[np.float32]:
    """Returns (N, 256), each row with mean 0 and length 1, so that products are correlations."""
    raw = thumbnails.astype(np.float32)
    centred: npt.NDArray[np.float32] = raw - raw.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return centred


def _symmetric_thumbnails(thumbnails: npt.NDArray[np.float32], symmetry: int) -> npt.NDArray[np.float32]:
    squares = thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.ascontiguousarray(_symmetric(squares, symmetry)).reshape(thumbnails.shape)


def _symmetric(squares: npt.NDArray[np.float32], symmetry: int) -> npt.NDArray[np.float32]:
    """Applies a symmetry of the square. Bit 0: flip vertically; bit 1: flip horizontally; bit 2: transpose, last."""
    if symmetry & 1:
        squares = squares[:, ::-1]
    if symmetry & 2:
        squares = squares[:, :, ::-1]
    return squares.transpose(0, 2, 1) if symmetry & 4 else squares


def _symmetric_hashes(hashes: UInt64Array, symmetry: int) -> UInt64Array:
    """Returns the hashes after a symmetry: a flip changes the signs of the odd frequencies of its axis."""
    if symmetry == 0:
        return hashes
    bits = np.unpackbits(hashes[:, None].view(np.uint8), axis=1, bitorder="little").reshape(-1, HASH_SIDE, HASH_SIDE)
    odd = (np.arange(1, HASH_SIDE + 1) % 2).astype(np.uint8)
    if symmetry & 1:
        bits = bits ^ odd[:, None]
    if symmetry & 2:
        bits = bits ^ odd[None, :]
    if symmetry & 4:
        bits = bits.transpose(0, 2, 1)
    return np.ascontiguousarray(np.packbits(bits.reshape(len(hashes), -1), axis=1, bitorder="little")).view(np.uint64)[
        :, 0
    ]


def assign_groups(
    table: pd.DataFrame, near_duplicate_threshold: float, known_links: IntArray | None = None
) -> pd.Series:
    """Returns the group of each row, named after its first image.

    Images of the same patient or lesion, identical images and near-duplicates are in one group, and so are images that
    are connected by a chain of these relations. A missing id connects nothing. `dataset=combined` has already prefixed
    the ids of different sets, so that equal ids mean the same lesion or patient.

    Args:
        table: a table with `image_id, lesion_id, patient_id, sha256, phash, thumbnail` and possibly `shared_image_id`
            and `copy_id`.
        near_duplicate_threshold: see `near_duplicate_pairs`.
        known_links: further pairs of rows (positions in `table`) that belong to one group, int64 (P, 2).

    Raises:
        ConfigError: the threshold is out of range.
    """
    pairs = known_pairs(table, near_duplicate_threshold)
    links = [pairs[["first", "second"]].to_numpy(np.int64)]
    links += [_equal_values(table, column) for column in IDENTITIES if column in table]
    links += [] if known_links is None else [known_links]
    first, second = np.concatenate(links).T
    size = len(table)
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    names = pd.Series(table["image_id"].to_numpy()).groupby(component).min()
    return pd.Series(names.to_numpy()[component], index=table.index, name="group")


def _equal_values(table: pd.DataFrame, column: str) -> IntArray:
    """Returns pairs of the first row with some value and each row with that value, int64 (P, 2)."""
    known = np.flatnonzero(table[column].notna().to_numpy())
    values = table[column].to_numpy()[known].astype(str)
    codes, _ = pd.factorize(values)
    _, first = np.unique(codes, return_index=True)
    return np.stack([known[first[codes]], known], axis=1)

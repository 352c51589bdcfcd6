"""Measures which changed copies of pictures the two searches for near-duplicates find, and which pairs are false.

    python scripts/near_duplicates.py dataset=ham10000 dataset.root=DIR --images 1000 --all

`hashes` is `lesion_exp.split.groups.near_duplicate_pairs` at its default threshold, `features` is
`lesion_exp.split.copies.copied_pairs`. For each change, a copy of each drawn image is changed, saved as JPEG of quality
90 and searched for among all originals and copies. The recall is the share of originals that are paired with their
copy. Pairs of different images whose ids of lesions differ are counted, too; with `--all` those among all images of the
data set, which are listed, since they may be photographs of one lesion after all. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pandas as pd

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.fingerprint import fingerprint
from lesion_exp.image_file import UInt8Array, read_image
from lesion_exp.split.copies import copied_pairs
from lesion_exp.split.groups import DEFAULT_THRESHOLD, near_duplicate_pairs
from lesion_exp.synthetic_artefacts import draw_hair
from lesion_exp.training.data import load_data

Change = Callable[[UInt8Array, np.random.Generator], UInt8Array]
QUALITY: Final = 90
SHORT_SIDE: Final = 256
"""Pixels to which the shorter side of an image is reduced first, so that all images of a data set fit into memory."""


def cropped(share: float) -> Change:
    """Returns a change that removes `share` of the width and the height, at a random place, and enlarges the rest."""

    def change(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
        height, width = image.shape[:2]
        rows, columns = round(height * (1 - share)), round(width * (1 - share))
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        kept = image[top : top + rows, left : left + columns]
        return np.asarray(cv2.resize(kept, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)

    return change


def brightened(factor: float) -> Change:
    """Returns a change that multiplies all values by `factor`."""
    return lambda image, _: np.clip(image * factor, 0, 255).astype(np.uint8)


def saved(image: UInt8Array, quality: int = QUALITY) -> UInt8Array:
    """Returns `image` as it is after saving it as JPEG."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)


CHANGES: Final[Mapping[str, Change]] = {
    "crop of 5%": cropped(0.05),
    "crop of 15%": cropped(0.15),
    "crop of 25%": cropped(0.25),
    "crop of 40%": cropped(0.4),
    "12 hairs": lambda image, rng: draw_hair(image, rng),
    "30 hairs": lambda image, rng: draw_hair(image, rng, count=30),
    "brightness x 0.7": brightened(0.7),
    "brightness x 1.3": brightened(1.3),
    "JPEG quality 50": lambda image, _: saved(image, 50),
    "quarter turn": lambda image, _: np.ascontiguousarray(np.rot90(image)),
    "mirrored": lambda image, _: np.ascontiguousarray(image[:, ::-1]),
    "half the size": lambda image, _: np.asarray(
        cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), dtype=np.uint8
    ),
}


def by_hashes(pictures: list[UInt8Array]) -> pd.DataFrame:
    """Returns the pairs that the hashes find."""
    hashes, thumbnails = zip(*map(fingerprint, pictures), strict=True)
    table = pd.DataFrame({"phash": np.array(hashes, np.uint64), "thumbnail": list(thumbnails)})
    return near_duplicate_pairs(table, DEFAULT_THRESHOLD)


def by_features(pictures: list[UInt8Array]) -> pd.DataFrame:
    """Returns the pairs that the local features find."""
    return copied_pairs(pictures.__getitem__, len(pictures))


SEARCHES: Final = {"hashes": by_hashes, "features": by_features}


def measured(search: str, pictures: list[UInt8Array], lesions: np.ndarray) -> str:
    """Returns recall, false pairs and time of a search; the second half of `pictures` are copies of the first."""
    count, start = len(pictures) // 2, time.process_time()
    pairs = SEARCHES[search](pictures)
    took = time.process_time() - start
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    false = (lesions[first % count] != lesions[second % count]).sum()
    recall = (second == first + count).sum() / count
    return f"{search}: recall {recall:.3f}, {false} pairs of different lesions, {took:.1f} s"


def main() -> None:
    """Prints a line for each change, and the pairs of different lesions among all images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="the data set: dataset=NAME dataset.root=DIR")
    parser.add_argument("--images", type=int, default=1000, help="number of images that are changed")
    parser.add_argument("--all", action="store_true", help="search among all images of the data set as well")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn images and of the changes")
    options = parser.parse_args()
    loaded = load_data(freeze(compose(options.overrides, root=Path.cwd())).config)
    table, paths = loaded.table, loaded.table["image_path"].tolist()
    lesions = table["lesion_id"].fillna(table["image_id"]).to_numpy()
    if options.images:
        drawn = np.random.default_rng(options.seed).permutation(len(table))[: options.images]
        originals = [read_image(paths[place], SHORT_SIDE) for place in drawn]
        for name, change in CHANGES.items():
            rng = np.random.default_rng(options.seed)
            copies = [saved(change(image, rng)) for image in originals]
            for search in SEARCHES:
                print(f"{name:<18}{measured(search, [*originals, *copies], lesions[drawn])}", flush=True)
    for search, find in SEARCHES.items() if options.all else ():
        start = time.process_time()
        pairs = find([read_image(path, SHORT_SIDE) for path in paths])
        across = pairs[lesions[pairs["first"]] != lesions[pairs["second"]]]
        took = time.process_time() - start
        counts = f"{len(pairs):,} pairs, {len(across)} of different lesions, {took:.0f} s"
        print(f"all {len(table):,} images by {search}: {counts}")
        for first, second in across[["first", "second"]].itertuples(index=False):
            print(f"  {table['image_id'].iloc[first]} {table['image_id'].iloc[second]}")


if __name__ == "__main__":
    main()

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lesion_exp.fingerprint import fingerprint
from lesion_exp.split.groups import DEFAULT_THRESHOLD, assign_groups


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """Large and small blobs: different for every seed, with traits of every size as a lesion has."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.full((height, width), 120.0)
    for _ in range(60):
        y, x, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(2, 14)
        image += rng.uniform(-45, 45) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def table_of(
    labels: list[str],
    lesions: list[str | None] | None = None,
    patients: list[str | None] | None = None,
    contents: list[int] | None = None,
) -> pd.DataFrame:
    """A data set's table with hashes and groups; images with the same number in `contents` are the same file."""
    count = len(labels)
    contents = list(range(count)) if contents is None else contents
    rng = np.random.default_rng(7)
    thumbnails = rng.integers(0, 256, (max(contents, default=0) + 1, 256), dtype=np.uint8)
    hashes = rng.integers(0, 2**63, max(contents, default=0) + 1, dtype=np.uint64)
    ids = [f"img{number:04d}" for number in range(count)]
    table = pd.DataFrame(
        {
            "row_id": ids,
            "image_id": ids,
            "label": labels,
            "lesion_id": pd.Series(lesions or [None] * count, dtype=object),
            "patient_id": pd.Series(patients or [None] * count, dtype=object),
            "source": "made",
            "sha256": [f"{content:064x}" for content in contents],
            "phash": hashes[contents],
            "thumbnail": [thumbnails[content].tobytes() for content in contents],
        }
    )
    return table.assign(group=assign_groups(table, DEFAULT_THRESHOLD))


def with_pictures(images: list[np.ndarray]) -> pd.DataFrame:
    """A table of these images, each a file of its own."""
    table = table_of(["nv"] * len(images))
    prints = [fingerprint(np.ascontiguousarray(image)) for image in images]
    return table.assign(
        phash=np.array([number for number, _ in prints], np.uint64), thumbnail=[small for _, small in prints]
    )


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., np.ndarray]:
    return picture


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pd.DataFrame]:
    return table_of


@pytest.fixture(scope="session")
def make_table_of_pictures() -> Callable[[list[np.ndarray]], pd.DataFrame]:
    return with_pictures


@pytest.fixture(scope="session")
def lesions_table() -> pd.DataFrame:
    """400 images of 250 lesions in four classes, one of them rare, each lesion of one class."""
    rng = np.random.default_rng(3)
    kinds = rng.choice(["bkl", "df", "mel", "nv"], 250, p=[0.2, 0.04, 0.16, 0.6])
    of_image = np.concatenate([np.arange(250), rng.integers(0, 250, 150)])
    return table_of([str(kinds[k]) for k in of_image], [f"L{k}" for k in of_image])

"""Writes a data set in the layout of ISIC 2024 (HDF5, metadata, patients) with planted near-duplicates.

Each picture is one of a few hundred drawn lesions, turned or mirrored, below a random pattern of its own: large spots,
so that no two pictures have alike hashes, and fine noise, so that no two files are alike. The columns are those that
were published, with random values; patients have as many images as in the published set, and one image in 1,000 is
malignant.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from lesion_exp.dataset.isic2024 import IMAGE_FILE, METADATA
from lesion_exp.dataset.synthetic import read_synthetic

SIDE = 64
"""Pixels; the published tiles have 41 to 269."""
NUM_LESIONS = 300
IMAGES_PER_PATIENT = 385
MALIGNANT = 393 / 401_059
IMAGES_PER_COPY = 2000
"""One image in so many is a near-duplicate of another patient's image."""
BLOCK = 1024
SPOTS, SPOT_DEVIATION, NOISE = 8, 30.0, 8
"""Spots along a side, their standard deviation, and the largest noise, in grey levels."""
MEASURED = (
    "A", "Aext", "B", "Bext", "C", "Cext", "H", "Hext", "L", "Lext", "areaMM2", "area_perim_ratio", "color_std_mean",
    "deltaA", "deltaB", "deltaL", "deltaLB", "deltaLBnorm", "eccentricity", "minorAxisMM", "nevi_confidence",
    "norm_border", "norm_color", "perimeterMM", "radial_color_std_max", "stdL", "stdLExt", "symm_2axis",
    "symm_2axis_angle", "x", "y", "z", "dnn_lesion_confidence",
)  # fmt: skip
"""The published columns `tbp_lv_*` that are numbers."""
SITES = ("head/neck", "upper extremity", "lower extremity", "anterior torso", "posterior torso")
UInt8Array = npt.NDArray[np.uint8]


def plant(folder: Path, images: int, seed: int = 0) -> list[tuple[str, str]]:
    """Writes `images` images and their metadata to `folder`; returns the ids of each planted pair of near-duplicates.

    The second picture of a pair is the first, darker and compressed more, under another patient and another lesion.
    """
    rng = np.random.default_rng(seed)
    ids = [f"ISIC_{number:07d}" for number in range(images)]
    is_malignant = np.zeros(images, bool)
    is_malignant[rng.permutation(images)[: max(round(images * MALIGNANT), 3)]] = True
    copy_of = {place + IMAGES_PER_COPY // 2: place for place in range(0, images - IMAGES_PER_COPY + 1, IMAGES_PER_COPY)}
    is_malignant[list(copy_of)] = is_malignant[list(copy_of.values())]
    folder.mkdir(parents=True, exist_ok=True)
    metadata(ids, is_malignant, rng).to_csv(folder / METADATA, index=False)
    originals = set(copy_of.values())
    with h5py.File(folder / IMAGE_FILE, "w") as file:
        again = b""
        for place, picture in enumerate(pictures(is_malignant, rng)):
            file[ids[place]] = np.void(again if place in copy_of else jpeg(picture, 85))
            if place in originals:
                again = jpeg((picture * 0.9).astype(np.uint8), 60)
    return [(ids[original], ids[copy]) for copy, original in copy_of.items()]


def metadata(ids: list[str], is_malignant: npt.NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
    """The published columns. A copy belongs to another patient than its original, from which it is far away."""
    count = len(ids)
    patient = np.arange(count) // IMAGES_PER_PATIENT
    ages, sexes = rng.integers(4, 18, count) * 5.0, rng.choice(["male", "female"], count)
    kinds: Mapping[str, object] = {
        "isic_id": ids,
        "target": is_malignant.astype(int),
        "patient_id": [f"IP_{number:07d}" for number in patient],
        "age_approx": ages[patient],
        "sex": sexes[patient],
        "anatom_site_general": rng.choice(SITES, count),
        "clin_size_long_diam_mm": rng.gamma(4.0, 1.0, count).round(2),
        "image_type": "TBP tile: close-up",
        "tbp_tile_type": rng.choice(["3D: XP", "3D: white"], count),
        **{f"tbp_lv_{name}": rng.normal(10.0, 3.0, count).round(6) for name in MEASURED},
        "tbp_lv_location": rng.choice(["Torso Back Top Third", "Left Leg - Lower", "Right Arm - Upper"], count),
        "tbp_lv_location_simple": rng.choice(["Torso Back", "Left Leg", "Right Arm"], count),
        "attribution": "generated",
        "copyright_license": "CC-BY",
        "lesion_id": [f"IL_{number:07d}" if number % 18 == 0 else "" for number in range(count)],
        "iddx_full": np.where(is_malignant, "Malignant::Melanoma", "Benign"),
        "iddx_1": np.where(is_malignant, "Malignant", "Benign"),
        **{f"iddx_{level}": "" for level in range(2, 6)},
        "mel_mitotic_index": "",
        "mel_thick_mm": np.where(is_malignant, "0.4", ""),
    }
    return pd.DataFrame(kinds)


def pictures(is_malignant: npt.NDArray[np.bool_], rng: np.random.Generator) -> Iterator[UInt8Array]:
    """One picture, uint8 (SIDE, SIDE, 3), for each image; lesions of the class are drawn below the pattern."""
    lesions, malignant = drawn_lesions()
    kinds = {kind: np.flatnonzero(malignant == kind) for kind in (False, True)}
    enlarge = cv2.resize(np.eye(SPOTS, dtype=np.float32), (SPOTS, SIDE), interpolation=cv2.INTER_CUBIC)
    for begin in range(0, len(is_malignant), BLOCK):
        classes = is_malignant[begin : begin + BLOCK]
        spots = rng.normal(0.0, SPOT_DEVIATION, (len(classes), 3, SPOTS, SPOTS)).astype(np.float32)
        spots += rng.normal(0.0, SPOT_DEVIATION, (len(classes), 1, SPOTS, SPOTS)).astype(np.float32)  # grey ones
        patterns = (enlarge @ spots @ enlarge.T).transpose(0, 2, 3, 1)
        patterns += rng.integers(-NOISE, NOISE + 1, patterns.shape, dtype=np.int8)
        chosen = [int(rng.choice(kinds[bool(kind)])) for kind in classes]
        for lesion, turns, pattern in zip(chosen, rng.integers(0, 8, len(chosen)), patterns, strict=True):
            turned = np.rot90(lesions[lesion], turns % 4)
            yield np.clip((turned[::-1] if turns > 3 else turned) + pattern, 0, 255).astype(np.uint8)


def drawn_lesions() -> tuple[UInt8Array, npt.NDArray[np.bool_]]:
    """Drawn lesions, uint8 (N, SIDE, SIDE, 3), and whether each is malignant."""
    with tempfile.TemporaryDirectory() as folder:
        table = read_synthetic(folder, NUM_LESIONS, image_height=SIDE, image_width=SIDE, images_per_lesion=1.0)
        drawn = np.stack(
            [np.asarray(Image.open(path, formats=["JPEG"]).convert("RGB")) for path in table["image_path"]]
        )
    return drawn, table["label"].isin(["akiec", "bcc", "mel"]).to_numpy()


def jpeg(picture: UInt8Array, quality: int) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()

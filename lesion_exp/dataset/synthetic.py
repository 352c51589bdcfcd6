"""Generates dermoscopic images of the seven HAM10000 classes, with masks, patients and optional faults."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pandas as pd

from lesion_exp import synthetic_artefacts
from lesion_exp.dataset import lesion_painter, lesion_structures, lesion_traits, synthetic_cases
from lesion_exp.dataset.image_files import locate_images, locate_masks
from lesion_exp.dataset.lesion_painter import Skin, paint_lesion, photograph
from lesion_exp.dataset.lesion_traits import RECIPES, draw_traits
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.synthetic_cases import USUAL, Faults, draw_cases, lesions_per_class, plant
from lesion_exp.dataset.table import DatasetInfo, map_labels, named_columns, standardize
from lesion_exp.errors import ConfigError, DataError, first_cases, nearest
from lesion_exp.text_table import read_csv

log = logging.getLogger(__name__)

CODES: Final = {code: code for code in sorted(RECIPES)}
CLASS_SHARES: Final[Mapping[str, float]] = {
    "akiec": 0.07, "bcc": 0.1, "bkl": 0.13, "df": 0.05, "mel": 0.13, "nv": 0.46, "vasc": 0.06
}  # fmt: skip
"""Class -> its share of the lesions. The order is that of HAM10000; rare classes are less rare than there."""
COLUMNS: Final = {
    **{name: name for name in ("lesion_id", "image_id", "patient_id", "dx", "age", "sex")},
    "localization": "site",
}
"""Columns of the metadata -> their names in the table (`label` is made of `dx`)."""
JPEG_QUALITY: Final = 90
SMALLEST_SIDE: Final = 32
LARGEST_SIDE: Final = 2048
MOST_PHOTOGRAPHS: Final = 20

INFO: Final = DatasetInfo(
    name="synthetic",
    title="generated lesions",
    citation="none: drawn by lesion_exp.dataset.lesion_painter; no photograph of a person went into it",
    licence="MIT, as this software",
    where="nothing to download: drawn below dataset.root when first used",
)


@dataclass(frozen=True)
class _Parameters:
    """Everything that the generated files depend on, apart from the code."""

    counts: Mapping[str, int]
    height: int
    width: int
    images_per_lesion: float
    drawing_seed: int
    faults: Faults
    patient_effect: float


def read_synthetic(
    root: str,
    num_lesions: int = 420,
    image_height: int = 150,
    image_width: int = 200,
    images_per_lesion: float = 1.35,
    class_shares: Mapping[str, float] | None = None,
    drawing_seed: int = 0,
    num_duplicates: int = 0,
    num_near_duplicates: int = 0,
    num_corrupt: int = 0,
    num_missing: int = 0,
    num_unknown_labels: int = 0,
    num_doubled_ids: int = 0,
    num_missing_ages: int = 0,
    patient_effect: float = 0.0,
) -> pd.DataFrame:
    """Returns the table of the generated data set, and draws its files on the first call.

    The same arguments give the same files, in a sub-folder of `root`. Own columns: `skin_tone` (Fitzpatrick type, 1 to
    6). The sub-folder also contains `planted_faults.csv`, which names the image of every planted fault. Several
    processes may call this function at the same time.

    Args:
        root: folder to draw into; created if necessary.
        num_lesions: lesions of all classes together.
        image_height: pixels.
        image_width: pixels.
        images_per_lesion: mean number of photographs per lesion, 1 to 20.
        class_shares: class -> its share of the lesions, in any unit; None: `CLASS_SHARES`.
        drawing_seed: seed of patients, lesions and photographs.
        num_duplicates: byte-identical copies under another lesion and patient.
        num_near_duplicates: brightened and recompressed copies under another lesion and patient.
        num_corrupt: truncated files.
        num_missing: rows without a file.
        num_unknown_labels: rows whose diagnosis is not a known class.
        num_doubled_ids: rows that occur twice.
        num_missing_ages: rows without an age.
        patient_effect: optical density of melanin, 0 to 1, by which malignant lesions are darker than the other lesions
            of their patient. If it is not 0, all lesions have the shapes and structures of nevi, patients differ in
            pigment far more than by this effect, and have seven lesions on average. Malignant lesions can then be
            recognised only by comparison with the patient's other lesions.

    Raises:
        ConfigError: an argument is out of range.
        DataError: `root` cannot be written to, or holds files that are not generated.
    """
    counts = {
        "duplicates": num_duplicates, "near_duplicates": num_near_duplicates, "corrupt": num_corrupt,
        "missing": num_missing, "unknown_labels": num_unknown_labels, "doubled_ids": num_doubled_ids,
        "missing_ages": num_missing_ages,
    }  # fmt: skip
    for name, count in counts.items():
        _check_number(f"num_{name}", count, 0)
    _check_number("drawing_seed", drawing_seed, 0)
    for name, side in (("image_height", image_height), ("image_width", image_width)):
        _check_number(name, side, SMALLEST_SIDE, LARGEST_SIDE)
    _check_number("images_per_lesion", images_per_lesion, 1, MOST_PHOTOGRAPHS, kind=float)
    _check_number("patient_effect", patient_effect, 0, 1, kind=float)
    shares = _check_shares(CLASS_SHARES if class_shares is None else class_shares)
    _check_number("num_lesions", num_lesions, len(shares))
    parameters = _Parameters(
        lesions_per_class(num_lesions, shares),
        image_height,
        image_width,
        float(images_per_lesion),
        drawing_seed,
        Faults(**counts),
        float(patient_effect),
    )
    return _read(_drawn_folder(Path(root).expanduser(), parameters))


def _read(folder: Path) -> pd.DataFrame:
    files = SourceFiles(folder, INFO.title)
    locator = files.require("metadata.csv")
    files.mark_known("planted_faults.csv", "parameters.json")
    frame = named_columns(read_csv(locator), files.shorten(locator), COLUMNS)
    frame = map_labels(frame, "dx", CODES).drop(columns="dx")
    frame["mask_path"] = locate_masks(frame["image_id"], files)
    frame["image_path"] = locate_images(frame["image_id"], files)
    return standardize(frame, INFO.name)


def _drawn_folder(root: Path, parameters: _Parameters) -> Path:
    """Returns the folder with the files for `parameters`, and draws them if it does not exist.

    The folder is renamed when it is complete, so it never exists in part.
    """
    stamp = json.dumps({**asdict(parameters), "code": _code_version()}, sort_keys=True)
    folder = root / hashlib.sha256(stamp.encode()).hexdigest()[:12]
    _check_own(root)
    if folder.is_dir():
        return folder
    building = root / f".building-{uuid.uuid4().hex}"
    try:
        building.mkdir(parents=True)
        _draw(building, parameters)
        (building / "parameters.json").write_text(stamp + "\n", encoding="utf-8")
        building.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was faster, and its files are the same
            raise DataError(
                f"expected to write generated images below {root}, but that failed: {error}; "
                f"set dataset.root to a folder with write permission and enough room"
            ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _check_own(root: Path) -> None:
    """Checks that a folder has no other files: a user who names them has probably left out dataset=NAME."""
    if not root.is_dir():
        return
    own = {path.parent for path in root.glob("*/parameters.json")}
    others = [path.name for path in root.iterdir() if path not in own and not path.name.startswith(".")]
    if others:
        raise DataError(
            f"expected dataset.root of dataset=synthetic to be a folder for generated images alone, but {root} holds "
            f"something else:\n{first_cases(sorted(others))}\nname the data set that is there, for example "
            f"dataset=ham10000, dataset=folder or dataset=csv, or leave dataset.root out"
        )


def _draw(folder: Path, parameters: _Parameters) -> None:
    seed, height, width = parameters.drawing_seed, parameters.height, parameters.width
    frame = draw_cases(parameters.counts, parameters.images_per_lesion, seed, parameters.patient_effect)
    if parameters.faults.total > len(frame):
        raise ConfigError(
            f"expected at most as many planted faults as images, since no image has two, got "
            f"{parameters.faults.total} for {len(frame)} images; raise dataset.num_lesions or plant fewer faults"
        )
    log.info("drawing %d images of %d generated lesions", len(frame), frame["lesion"].nunique())
    images, masks = folder / "images", folder / "masks"
    images.mkdir()
    masks.mkdir()
    for lesion, photographs in frame.groupby("lesion", sort=True):
        case = photographs.iloc[0]
        rng = np.random.default_rng([seed, 3, int(str(lesion))])
        skin = Skin(int(case["skin_tone"]), int(case["hairs"]), int(case["freckles"]))
        if parameters.patient_effect:
            usual = draw_traits(USUAL, rng)
            traits = replace(usual, melanin=float(case["pigment"]), blood=0.1, haze=0.0, veil=0.0, globules=0.0)
        else:
            traits = draw_traits(str(case["dx"]), rng)
        painted = paint_lesion(traits, skin, rng, height, width)
        for image_id, number in zip(photographs["image_id"], photographs["photograph"], strict=True):
            view = np.random.default_rng([seed, 4, int(str(lesion)), int(number)])
            image, mask = photograph(painted, skin, view, height, width)
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            (images / f"{image_id}.jpg").write_bytes(encoded.tobytes())
            (masks / f"{image_id}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    frame, planted = plant(frame, parameters.faults, images, masks, seed)
    frame[[*COLUMNS, "skin_tone"]].to_csv(folder / "metadata.csv", index=False, float_format="%g")
    planted.to_csv(folder / "planted_faults.csv", index=False)


def _code_version() -> str:
    """Returns a digest of the source code that draws, so that images of an earlier version are not used."""
    digest = hashlib.sha256()
    for module in (
        synthetic_artefacts,
        lesion_painter,
        lesion_structures,
        lesion_traits,
        synthetic_cases,
    ):
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:16]


def _check_shares(shares: object) -> dict[str, float]:
    """Checks `class_shares`, and returns the shares above 0.

    Raises:
        ConfigError: it is not a mapping, a class is unknown, a share is negative, or all are 0.
    """
    if not isinstance(shares, Mapping):
        raise ConfigError(
            f"expected dataset.class_shares to map classes to shares, such as {{nv: 2, mel: 1}}, got {shares!r}"
        )
    for code, share in shares.items():
        if code not in RECIPES:
            raise ConfigError(
                f"expected classes of {INFO.title} in dataset.class_shares, got {code!r}; {nearest(code, RECIPES)}"
            )
        _check_number(f"class_shares.{code}", share, 0, kind=float)
    positive = {code: float(share) for code, share in shares.items() if share > 0}
    if not positive:
        raise ConfigError(
            "expected shares above 0 in dataset.class_shares, got none; give at least two classes a share above 0"
        )
    return positive


def _check_number(
    name: str, value: object, least: float, most: float = float("inf"), kind: type[int] | type[float] = int
) -> None:
    right_kind = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not right_kind or not least <= value <= most or value == float("inf"):  # type: ignore[operator]
        what = "a whole number" if kind is int else "a number"
        limits = f"of at least {least:g}" + (f" and at most {most:g}" if most < float("inf") else "")
        raise ConfigError(f"expected dataset.{name} to be {what} {limits}, got {value!r}; set such a number")

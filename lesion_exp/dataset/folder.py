"""Reads a folder with one sub-folder of images per class, optionally below the folders train, val and test."""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.archive import ZIP, file_of, is_clutter, split_locator
from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.image_files import Choice, choose_one, images_among
from lesion_exp.dataset.image_names import is_image, suffix_of
from lesion_exp.dataset.path_patterns import as_override, pattern_for
from lesion_exp.dataset.source_files import SourceFiles, is_document, other_files
from lesion_exp.dataset.table import OFFICIAL_PARTS, DatasetInfo, as_label, map_labels, named_labels, standardize
from lesion_exp.errors import ConfigError, DataError, first_cases

ARRAYS: Final = frozenset({".npy", ".npz", ".mat", ".h5", ".hdf5"})
"""Endings of documents that may contain images. A class folder with nothing else is an error, not a class to drop."""
NO_FOLDER: Final = "(in no class folder)"
"""The label, for messages, of an image that lies in no class folder."""

INFO: Final = DatasetInfo(
    name="folder",
    title="a folder with one sub-folder per class",
    citation="none: data of the user's own",
    licence="that of the data",
    where="CLASS/*.jpg or train|val|test/CLASS/*.jpg in one folder, zipped or unpacked",
)


def read_folder(
    root: str,
    lesion_pattern: str | None = None,
    images: str = "*",
    ignore: Sequence[str] = (),
    labels: Mapping[str, str | None] | None = None,
) -> pd.DataFrame:
    """Returns the table of all images below `root`; the class is the name of the first folder, in lower case.

    If the first folders are train, val and test, `official_split` is the part and the second folder is the class. A zip
    counts as the folder that it was made of (`nv.zip` without folders inside is the class nv). `image_id` is the path
    without the ending.

    Args:
        root: the folder.
        lesion_pattern: regular expression that is searched in the path; its first group is the `lesion_id`. An image
            whose path does not match is a lesion by itself.
        images: pattern of the images (see `path_patterns`). Masks and superpixels (`X_mask.png`, a folder
            `GroundTruth`) are not images unless the pattern names them.
        ignore: patterns of files that are not read (see `path_patterns`).
        labels: name of a class folder -> class; other folders are unknown. None: the name in lower case is the class.

    Raises:
        ConfigError: `lesion_pattern` is not a regular expression, has no group, or matches no image.
        DataError: there are no images, or none in some class folder; two different files have the same id; or only some
            of the folders are parts of a split.
    """
    files = SourceFiles(root, "the class folders", ignore)
    choice = Choice(images, "dataset.images")
    found = _images(images_among(files, choice), files, choice)
    if not found:
        raise DataError(_nothing(files))
    files.record_left_out()
    _check_classes(found, files)
    _warn_of_empty_folders(found, files)
    rows = _rows(found, files)
    names = list(dict.fromkeys(row["folder"] for row in rows))
    known = {name: as_label(name) for name in names} if labels is None else named_labels(labels, names)
    frame = map_labels(pd.DataFrame(rows), "folder", known, names=labels is None)
    frame.loc[frame["folder"] == NO_FOLDER, "label"] = None
    if lesion_pattern is not None:
        frame["lesion_id"] = _lesions(frame["image_id"], lesion_pattern)
    return standardize(frame.drop(columns="folder"), INFO.name)


class _Image(NamedTuple):
    locator: str
    path: PurePosixPath
    """Path below the folder or zip, without folders that wrap everything else."""


def _images(locators: Sequence[str], files: SourceFiles, choice: Choice) -> list[_Image]:
    """Returns the images, each once: a zip may lie beside its unpacked files."""
    by_container: dict[str, list[_Image]] = defaultdict(list)
    for locator in locators:
        container, inner = split_locator(locator)
        by_container[container].append(_Image(locator, PurePosixPath(inner if container else files.shorten(locator))))
    unpacked = _unwrapped(by_container.pop("", []), "")
    zipped = [image for zip_, found in by_container.items() for image in _unwrapped(found, PurePosixPath(zip_).stem)]
    by_id: dict[str, list[_Image]] = defaultdict(list)
    for image in unpacked + zipped:
        by_id[_image_id(image.path)].append(image)
    candidates = [[image.locator for image in same] for same in by_id.values()]
    chosen = set(choose_one(list(by_id), candidates, files, choice))
    return [image for same in by_id.values() for image in same if image.locator in chosen]


def _image_id(path: PurePosixPath) -> str:
    return str(path.with_suffix(""))


def _nothing(files: SourceFiles) -> str:
    listed = [files.shorten(locator) for locator in files.locators]
    remedy = "set dataset.root=DIR to the folder with the class folders"
    what = f"found {other_files(listed)}"
    if files.masks:
        what = f"but {len(files.masks):,} files that count as masks by their names or folders\n{first_cases(listed)}"
        remedy += f", or, to read them, {as_override('dataset.images', pattern_for(files.shorten(files.masks[0])))}"
    return f"expected images in one sub-folder per class below {files.root}, {what}\n{remedy}"


def _check_classes(images: Sequence[_Image], files: SourceFiles) -> None:
    """Checks that every folder of files has an image, unless the files are documents, masks or archives."""
    kept = {_folder(files.shorten(image.locator)) for image in images}
    others = [each for each in files.locators if suffix_of(each) in ARRAYS or not (is_image(each) or is_document(each))]
    lost: dict[str, list[str]] = defaultdict(list)
    for path in map(files.shorten, others):
        if not any(
            _is_below(folder, _folder(path)) or (folder and _is_below(_folder(path), folder)) for folder in kept
        ):
            lost[_folder(path)].append(path)
    if lost:
        cases = [f"{folder}: {', '.join(paths[:3])}" for folder, paths in lost.items()]
        leave_out = as_override("dataset.ignore", [f"{glob.escape(folder)}/*" for folder in lost])
        raise DataError(
            f"expected images in every class folder, but {len(lost)} folders hold only files of other kinds:\n"
            f"{first_cases(cases)}\nconvert these files to JPEG or PNG, or leave the folders out with "
            f"{leave_out}"
        )


def _warn_of_empty_folders(images: Sequence[_Image], files: SourceFiles) -> None:
    """Warns about folders beside the class folders that contain no file at all."""
    beside = {
        (files.root / _folder(files.shorten(image.locator))).parent
        for image in images
        if ZIP not in image.locator.lower()
    }
    held = {str(parent) for each in files.locators for parent in Path(file_of(each)).parents}
    empty = [
        folder
        for parent in sorted(beside)
        if parent == files.root or files.root in parent.parents
        for folder in sorted(parent.iterdir())
        if folder.is_dir() and not is_clutter((folder.name,)) and str(folder) not in held
    ]
    if empty:
        record_finding(
            f"{len(empty)} folders below {files.root} hold no file that is read, and are not classes",
            [files.shorten(str(folder)) for folder in empty],
            level="warning",
        )


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _is_below(folder: str, other: str) -> bool:
    return f"{folder}/".startswith(f"{other}/")


def _unwrapped(images: list[_Image], archive: str) -> list[_Image]:
    """Removes folders that contain all class folders, and adds the zip's name if that is a class or a part."""
    while True:
        first = {image.path.parts[0] for image in images}
        deep = all(len(image.path.parts) > 2 for image in images)
        if len(first) != 1 or not deep or _part(first.pop()):
            break
        images = [_Image(locator, PurePosixPath(*path.parts[1:])) for locator, path in images]
    flat = all(len(image.path.parts) == 1 for image in images)
    named_part = _part(archive) and not any(_part(image.path.parts[0]) for image in images)
    if archive and (flat or named_part):
        images = [_Image(locator, PurePosixPath(archive, path)) for locator, path in images]
    return images


def _part(folder: str) -> str | None:
    words = re.sub(r"[\s_-]+", " ", folder.lower()).strip()
    return OFFICIAL_PARTS.get(re.sub(r" ?(?:set|data|dataset|split|part|images)$", "", words))


def _rows(images: list[_Image], files: SourceFiles) -> list[dict[str, Any]]:
    in_parts = [_part(path.parts[0]) is not None and len(path.parts) > 1 for _, path in images]
    if any(in_parts) and not all(in_parts):
        outside = [files.shorten(image.locator) for image, inside in zip(images, in_parts, strict=True) if not inside]
        raise DataError(
            f"expected all images in train, val or test folders, or none, but {len(outside)} of {len(images)} lie "
            f"elsewhere:\n{first_cases(outside)}\nmove them, or set dataset.root to one of the folders"
        )
    if not any(in_parts):
        _check_first_folders(images, files)
    rows = []
    for locator, path in images:
        folders = path.parts[1:-1] if all(in_parts) else path.parts[:-1]
        row: dict[str, Any] = {"image_id": _image_id(path), "image_path": locator}
        row["folder"] = folders[0] if folders else NO_FOLDER
        if all(in_parts):
            row["official_split"] = _part(path.parts[0])
        rows.append(row)
    return rows


def _check_first_folders(images: Sequence[_Image], files: SourceFiles) -> None:
    """Checks that the second folders are not the classes (`clinic_a/mel`, `clinic_b/mel`), by the known diagnoses."""
    second: dict[str, set[str]] = defaultdict(set)
    for _, path in images:
        if len(path.parts) > 2:
            second[path.parts[0]].add(path.parts[1].lower())
    if len(second) < 2 or any(taxonomy.code_of(first.lower()) for first in second):
        return
    shared = sorted(set.intersection(*second.values()))
    diagnoses = [name for name in shared if taxonomy.code_of(name)]
    if len(diagnoses) >= 2:
        raise DataError(
            f"expected class folders below {files.root} or below its folders train, val and test, but each of the "
            f"folders {', '.join(sorted(second))} holds {', '.join(diagnoses)}; rename these folders to train, val or "
            f"test, or set dataset.root={files.root / sorted(second)[0]} to read one of them"
        )


def _lesions(ids: pd.Series, pattern: str) -> pd.Series:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"expected a regular expression in dataset.lesion_pattern, got {pattern!r}: {error}; correct it"
        ) from error
    if not compiled.groups:
        raise ConfigError(
            f"expected dataset.lesion_pattern to have a group for the lesion, such as '(HAM_[0-9]+)', got {pattern!r}"
        )
    matches = [compiled.search(name) for name in ids]
    if not any(matches):
        raise ConfigError(
            f"expected dataset.lesion_pattern to match paths such as {ids.iloc[0]!r}, but {pattern!r} matches none; "
            f"correct it, or set it to null"
        )
    return pd.Series([match[1] if match else None for match in matches], index=ids.index, dtype=object)

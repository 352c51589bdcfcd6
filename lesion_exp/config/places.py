"""The files and folders that a config names and that have to exist, checked before anything large is imported."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lesion_exp.backbone.hub import HUB
from lesion_exp.backbone.options import meant_weights
from lesion_exp.choices import DRAWN
from lesion_exp.config.named_run import RUN, WEIGHTS
from lesion_exp.errors import DataError
from lesion_exp.next_command import key_and_value
from lesion_exp.terminal import shell_words

ROOT: Final = "dataset.root"
SPLIT_PATH: Final = "split.path"
PSEUDO_LABELS: Final = "dataset.pseudo_labels"
_FILES: Final = {
    SPLIT_PATH: "the csv of the split",
    PSEUDO_LABELS: "a file of pseudo-labels",
    WEIGHTS: "a file of weights",
}
_NO_FILE: Final = ("none", "imagenet", HUB, RUN)
"""Beginnings of values of `backbone.weights` that name no file."""
_SEVERAL: Final = re.compile(r"[,()\[\]{}'\"$\\]")
"""Characters of values that only Hydra can read: several values, functions, references, escaped characters."""


def check_given_weights(overrides: Iterable[str]) -> None:
    """Checks that the file that `overrides` give as `backbone.weights` exists.

    The check comes before the config is composed, which for a network with weights imports torch and takes seconds.

    Raises:
        DataError: the file does not exist.
    """
    for text in overrides:
        key, value = key_and_value(text)
        if key == WEIGHTS and value and not value.startswith(_NO_FILE) and not _SEVERAL.search(value):
            _check_file(WEIGHTS, Path(value).expanduser().absolute())


def check_places(config: Mapping[str, Any], among: Container[str] | None = None) -> None:
    """Checks that the folders of the data and the files that `config` names exist; with `among`, those at these keys.

    Raises:
        DataError: a folder or a file does not exist.
    """
    check_data_folders(config["dataset"], among)
    for key in _FILES:
        group, _, leaf = key.partition(".")
        value = config[group].get(leaf)
        is_path = isinstance(value, str) and Path(value).is_absolute()  # as all paths of a config are
        if is_path and (among is None or key in among):
            _check_file(key, Path(value))


def check_new_places(config: Mapping[str, Any], places: Mapping[str, Path]) -> None:
    """Checks that there is something at `places`, which the user gave for those of `config`, by their keys.

    Raises:
        DataError: a folder or a file does not exist.
    """
    root = places.get(ROOT)
    if root is not None and not root.is_dir():  # generated data would be drawn into a mistyped folder
        raise DataError(_no_folder(root, str(config["dataset"]["name"]), ROOT, ROOT))
    check_places(config, places)


def check_data_folders(dataset: Mapping[str, Any], among: Container[str] | None = None) -> None:
    """Checks that the folders of the data sets in the node `dataset` exist; with `among`, those at these keys.

    Raises:
        DataError: a folder does not exist.
    """
    for name, key, typed, root in _roots(dataset):
        if (among is None or key in among) and not root.is_dir():
            raise DataError(_no_folder(root, name, key, typed))


def folders_of_parts(folder: Path) -> dict[str, list[Path]]:
    """Returns part -> the folders in `folder` with a common name of the part, such as `train` and `testing`; empty if
    there is none for the training part or none for the test part."""
    from lesion_exp.dataset.table import OFFICIAL_PARTS

    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        part = OFFICIAL_PARTS.get(path.name.lower())
        if part is not None and path.is_dir():
            found.setdefault(part, []).append(path)
    return found if {"train", "test"} <= found.keys() else {}


def _no_folder(root: Path, name: str, key: str, typed: str) -> str:
    from lesion_exp.dataset.source_files import no_folder

    return no_folder(root, name, key, typed)


def _check_file(key: str, path: Path) -> None:
    if key == SPLIT_PATH and path.is_dir():
        found = {} if "," in str(path) else folders_of_parts(path)
        parts = found or {part: [Path("DIR")] for part in ("train", "test")}
        words = shell_words(f"{part}_ids={','.join(map(str, folders))}" for part, folders in parts.items())
        first = "rename the folder, since its path has a comma, and " if "," in str(path) else ""
        raise DataError(
            f"expected {_FILES[key]} at {key}, but there is a folder at {path}; name a csv with the columns image_id "
            f"and split, or {first}audit the folders of the parts with {words} instead of split=file"
        )
    if not path.is_file():
        meant = meant_weights(path.name) if key == WEIGHTS else ""
        remedy = meant or f"; correct the path with {key}=FILE"
        raise DataError(f"expected {_FILES[key]} at {key}, but there is no file at {path}{remedy}")


def _roots(dataset: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Path]]:
    """Yields the name of each data set, the key of its folder, the key to type for another one, and the folder.

    Generated data make their folder.
    """
    if dataset.get("_target_") == DRAWN:
        return
    if isinstance(dataset.get("root"), str):
        yield str(dataset["name"]), ROOT, ROOT, Path(dataset["root"])
    sets = dataset.get("sets")
    for name, given in sets.items() if isinstance(sets, Mapping) else ():
        root = given.get("root") if isinstance(given, Mapping) else given
        key = f"dataset.sets.{name}"
        if isinstance(root, str):
            yield str(name), key, f"{key}.root" if isinstance(given, Mapping) else key, Path(root)

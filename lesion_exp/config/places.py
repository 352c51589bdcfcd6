"""The files and folders that a config names and that have to exist, checked before anything large is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lesion_exp.choices import DRAWN
from lesion_exp.errors import DataError

_FILES: Final = {
    "split.path": "the csv of the split",
    "dataset.pseudo_labels": "a file of pseudo-labels",
    "backbone.weights": "a file of weights",
}


def check_places(config: Mapping[str, Any]) -> None:
    """Checks that the folders of the data and the files that `config` names are there.

    Raises:
        DataError: one is not.
    """
    for name, key, root in _roots(config["dataset"]):
        if not root.is_dir():
            from lesion_exp.dataset.source_files import no_folder

            raise DataError(no_folder(root, name, key))
    for key, what in _FILES.items():
        group, _, leaf = key.partition(".")
        value = config[group].get(leaf)
        is_path = isinstance(value, str) and Path(value).is_absolute()  # as all paths of a config are
        if is_path and not Path(value).is_file():
            raise DataError(f"expected {what} at {key}, but there is no file at {value}; correct the path")


def _roots(dataset: Mapping[str, Any]) -> Iterator[tuple[str, str, Path]]:
    """The name of each data set, the key of its folder and the folder, which generated data make themselves."""
    if dataset.get("_target_") == DRAWN:
        return
    if isinstance(dataset.get("root"), str):
        yield str(dataset["name"]), "dataset.root", Path(dataset["root"])
    sets = dataset.get("sets")
    for name, given in sets.items() if isinstance(sets, Mapping) else ():
        root = given.get("root") if isinstance(given, Mapping) else given
        if isinstance(root, str):
            yield str(name), f"dataset.sets.{name}", Path(root)

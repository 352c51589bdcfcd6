"""Reads the parts of a published split as people publish them: a table, lists of images, or folders of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.dataset.image_names import is_image
from lesion_exp.dataset.table import OFFICIAL_PARTS
from lesion_exp.errors import DataError, check_file, first_cases
from lesion_exp.image_ids import ImageIds, clean_name, usual_id_columns
from lesion_exp.split import PARTS
from lesion_exp.split.file import KEYS
from lesion_exp.text_table import read_cells, read_table

MOST_CASES: Final = 10
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ListedParts:
    """A data set's table with the parts that files or folders give."""

    table: pd.DataFrame
    """A row for each image and part, with `split`; an image that is listed in several parts has several rows."""
    left_out: int
    """Images of the data set that are in no part."""
    not_found: tuple[str, ...]
    """Names that are listed, but are no images of the data set."""
    repeated: int
    """Further listings of an image in the same part, which do not count."""
    several_parts: int
    """Images that are listed in several parts."""
    sources: tuple[str, ...]
    """Where the parts come from, in words."""


def ids_of(table: pd.DataFrame) -> ImageIds:
    """Returns the ids of the images of a data set's table, of which people may write paths."""
    return ImageIds(table["image_id"], paths=True, sources=table["source"])


def column_of(ids: ImageIds, frame: pd.DataFrame, where: str) -> tuple[str, IntArray]:
    """Returns the name of the column of `frame` that names images, and the rows of these images (see `ImageIds`).

    Where the ids are numbers, others may look like them, such as ages or the numbers of rows. `image_id` and `row_id`
    come first, then columns with another usual name (`file`), then the rest.

    Raises:
        DataError: no column names an image of the table, or several do and differ.
    """
    found = {str(name): ids.rows(frame[name]) for name in frame}
    counts = {name: int((rows >= 0).sum()) for name, rows in found.items()}
    most = max(counts.values(), default=0)
    if not most:
        cases = [f"{name}: {frame[name].iloc[0]}" for name in frame] if len(frame) else []
        raise DataError(
            f"expected a column with images of the data set in {where}, but none of its {len(frame)} rows names "
            f"one; the first row is\n{first_cases(cases)}\nset dataset= and dataset.root= to the data set of "
            f"these images, or name the images by their ids"
        )
    near = [name for name, count in counts.items() if 2 * count >= most]
    usual = usual_id_columns(near)
    certain = [name for name in usual if name in KEYS]
    candidates = certain[:1] or usual or near
    best = max(candidates, key=lambda name: counts[name])
    others = [name for name in candidates if _name_others(found[best], found[name])]
    if others:
        cases = [f"{name} names {counts[name]:,}, first {frame[name].iloc[0]}" for name in (best, *others)]
        raise DataError(
            f"expected one column with images of the data set in {where}, but several name images, and not the "
            f"same:\n{first_cases(cases)}\ncall the column with the ids image_id in the first line"
        )
    return best, found[best]


def _name_others(rows: IntArray, others: IntArray) -> bool:
    """Whether a line that names an image in both of two columns names another one in each."""
    return bool(((rows >= 0) & (others >= 0) & (rows != others)).any())


def parts_of_table(table: pd.DataFrame, path: Path) -> ListedParts:
    """Returns `table` with the parts in the file at `path`, which has a column of images and one of parts.

    Raises:
        DataError: the file cannot be read, or does not have these columns.
    """
    frame = read_table(path, "the parts of the split")
    column, rows = column_of(ids_of(table), frame, str(path))
    words = {str(name): frame[name].map(_part_of, na_action="ignore") for name in frame if name != column}
    columns = [
        name for name, parts in words.items() if parts.notna().any() and (parts.notna() == frame[name].notna()).all()
    ]
    chosen = "split" if "split" in columns else columns[0] if len(columns) == 1 else None
    if chosen is None and not columns and "split" in words:
        strange = frame.loc[words["split"].isna() & frame["split"].notna(), "split"].astype(str)
        values = ", ".join(strange.unique()[:5]) or "none"
        raise DataError(
            f"expected train, val or test in the column split of {path}, got {values} in {len(strange):,} of "
            f"{len(frame):,} rows; rename these parts, or empty the cells of images that are in no part"
        )
    if chosen is None:
        got = f"{len(columns)} ({', '.join(columns)})" if columns else f"none among {', '.join(map(str, frame))}"
        raise DataError(
            f"expected one column with the parts train, val and test in {path}, got {got}; call it split, or name a "
            f"list of images for each part: train_ids=FILE test_ids=FILE"
        )
    listed = pd.DataFrame({"row": rows, "name": frame[column].astype(str), "split": words[chosen]})
    return _joined(table, listed[listed["split"].notna()], [f"{path.name} (columns {column} and {chosen})"])


def parts_of_lists(table: pd.DataFrame, lists: Mapping[str, Sequence[Path]]) -> ListedParts:
    """Returns `table` with the parts that `lists` name.

    Args:
        table: a data set's table.
        lists: part -> files with an image in each row (with a header or without), or folders of images.

    Raises:
        DataError: a file or folder cannot be read, or names no image of the data set.
    """
    ids, frames, sources = ids_of(table), [], []
    for part, paths in lists.items():
        for path in paths:
            frame = _images_below(path) if path.is_dir() else _listed_images(path, ids)
            column, rows = column_of(ids, frame, str(path))
            frames.append(pd.DataFrame({"row": rows, "name": frame[column].astype(str), "split": part}))
            sources.append(f"{part}: {path.name}")
    return _joined(table, pd.concat(frames, ignore_index=True), sources)


def parts_of_dataset(table: pd.DataFrame) -> ListedParts:
    """Returns `table` with the parts that the data set was published with, such as its folders train and test.

    Raises:
        DataError: the data set has no published parts.
    """
    parts = table["official_split"] if "official_split" in table else pd.Series(None, index=table.index, dtype=object)
    listed = pd.DataFrame({"row": np.arange(len(table)), "name": table["image_id"], "split": parts})
    return _joined(table, listed[parts.isin(PARTS).to_numpy()], ["the parts of the data set"])


def _joined(table: pd.DataFrame, listed: pd.DataFrame, sources: Sequence[str]) -> ListedParts:
    known = listed[listed["row"] >= 0]
    once = known.drop_duplicates(["row", "split"])
    parts = sorted(set(once["split"]))
    if not {"train", "test"} <= set(parts):
        raise DataError(
            f"expected a training part and a test part, got {', '.join(parts) or 'no part'} from {'; '.join(sources)}; "
            f"name the lists of both: train_ids=FILE test_ids=FILE"
        )
    split = table.iloc[once["row"]].assign(split=once["split"].to_numpy()).reset_index(drop=True)
    several = once["row"].duplicated().to_numpy()
    split["row_id"] = split["row_id"].where(~several, split["row_id"].astype(str) + "@" + split["split"])
    return ListedParts(
        table=split,
        left_out=len(table) - once["row"].nunique(),
        not_found=tuple(dict.fromkeys(listed.loc[listed["row"] < 0, "name"])),
        repeated=len(known) - len(once),
        several_parts=int(once.loc[several, "row"].nunique()),
        sources=tuple(sources),
    )


def _listed_images(path: Path, ids: ImageIds) -> pd.DataFrame:
    """Returns the table at `path`, which has no header if its first line names an image."""
    what = "the images of a part"
    if path.suffix.lower() == ".parquet":
        return read_table(path, what)
    path = path.expanduser()
    check_file(path, what)
    cells = read_cells(str(path))
    if (ids.rows(cells.iloc[0]) >= 0).any():
        return cells
    before_blank = _before_blank(cells, ids)
    return read_table(path, what) if before_blank is None else before_blank


def _before_blank(cells: pd.DataFrame, ids: ImageIds) -> pd.DataFrame | None:
    """The names of a list in which a label follows each name and a blank, as in those of ImageNet (`1.jpg 4`).

    None for another list: with several columns, or with whole lines that name images.
    """
    if cells.shape[1] > 1 or (ids.rows(cells.iloc[:, 0]) >= 0).any():
        return None
    names = cells.iloc[:, 0].str.split(n=1).str[0]
    is_known = ids.rows(names) >= 0
    if not is_known.any():
        return None
    return pd.DataFrame({"name": names if is_known[0] else names.iloc[1:]})  # without the header


def _images_below(folder: Path) -> pd.DataFrame:
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if is_image(path.name))
    if not found:
        raise DataError(f"expected images below the folder {folder}, got none; name the folder of one part")
    return pd.DataFrame({"image": found})


def _part_of(word: object) -> str | None:
    return OFFICIAL_PARTS.get(clean_name(word).lower())

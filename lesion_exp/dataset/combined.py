"""Several data sets as one, their labels brought to common classes by the taxonomy."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final, Literal, get_args

import pandas as pd

import lesion_exp.dataset
from lesion_exp import taxonomy
from lesion_exp.dataset.info import DatasetInfo
from lesion_exp.dataset.table import STANDARD_COLUMNS
from lesion_exp.errors import ConfigError, DataError, first_cases, nearest

OnUnmappable = Literal["error", "skip"]
IDS: Final = ("row_id", "image_id", "lesion_id", "patient_id")

INFO: Final = DatasetInfo(
    name="combined",
    title="several data sets as one",
    citation="those of its parts",
    licence="the strictest of its parts",
    where="the folders of its parts, named in dataset.sets",
)

logger = logging.getLogger(__name__)


def read_combined(
    sets: Mapping[str, str | Mapping[str, Any] | None],
    classes: Sequence[str] | None = None,
    on_unmappable: OnUnmappable = "error",
) -> pd.DataFrame:
    """The tables of `sets`, one below the other, with labels among `classes`.

    `sets` maps a data set's name to its root or to its reader's arguments (`ham10000: {root: DIR}`); any other name
    serves too if it says which set it is (`clinic_a: {set: csv, root: DIR, table: labels.csv}`). That name is the
    `source`, and stands before all ids (`ham10000/ISIC_0024306`). Without `classes` those of the sets are taken, if
    none of them contains another. A label that belongs to no class is an error, or with `on_unmappable=skip` leaves its
    images out. What the label was is in `source_label`.

    Raises:
        ConfigError: unknown set or argument, classes that overlap, or an unknown class.
        DataError: labels that belong to no class; whatever the readers raise.
    """
    if on_unmappable not in get_args(OnUnmappable):
        raise ConfigError(f"expected dataset.on_unmappable to be error or skip, got {on_unmappable!r}; correct it")
    if not isinstance(sets, Mapping) or not sets:
        raise ConfigError(f"expected dataset.sets to map names of data sets to their folders, got {sets!r}")
    tables = {name: _reader(name, given)() for name, given in sets.items()}
    found = {code for table in tables.values() for code in table["label"].dropna()}
    targets = _common_classes(found) if classes is None else _checked(classes, found)
    mapped = {code: taxonomy.map_label(code, targets) for code in found}
    _report(tables, mapped, targets, on_unmappable)
    unmappable = {code for code, target in mapped.items() if target is None}
    parts = [_prefixed(table[~table["label"].isin(unmappable)], name, mapped) for name, table in tables.items()]
    combined = pd.concat(parts, ignore_index=True)
    own = [column for column in combined.columns if column not in STANDARD_COLUMNS]
    for column in ("official_split", "clinical_path"):
        if column in own:
            values = combined[column].astype(object)
            combined[column] = values.where(values.notna(), None)
    return combined[[*STANDARD_COLUMNS, *own]]


def set_names() -> tuple[str, ...]:
    """Names of the data sets that can be combined: the modules `NAME` of this package with a `read_NAME`."""
    names = {module.name for module in pkgutil.iter_modules(lesion_exp.dataset.__path__)} - {INFO.name}
    return tuple(sorted(name for name in names if hasattr(_module(name), f"read_{name}")))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{lesion_exp.dataset.__name__}.{name}")


def _reader(name: str, given: str | Mapping[str, Any] | None) -> Callable[[], pd.DataFrame]:
    arguments = {"root": given} if isinstance(given, str) else dict(given or {})
    wanted = str(arguments.pop("set", name))
    if wanted not in set_names():
        raise ConfigError(
            f"expected the name of a data set in dataset.sets, got {wanted!r}; {nearest(wanted, set_names())} Under a "
            f"name of your own write {name}: {{set: NAME, root: DIR}}"
        )
    read: Callable[..., pd.DataFrame] = getattr(_module(wanted), f"read_{wanted}")
    parameters = inspect.signature(read).parameters
    for key in arguments:
        if key not in parameters:
            raise ConfigError(
                f"expected arguments of {wanted} in dataset.sets.{name}, got {key!r}; {nearest(str(key), parameters)}"
            )
    lacking = [key for key, each in parameters.items() if each.default is each.empty and key not in arguments]
    if lacking:
        raise ConfigError(
            f"expected {', '.join(lacking)} for {wanted}, got nothing; write "
            f"dataset.sets={{{name}: {{{lacking[0]}: ...}}}}"
        )
    return lambda: read(**arguments)


def _common_classes(found: set[str]) -> tuple[str, ...]:
    """The codes in `found`, if no one contains another."""
    contained = {code: taxonomy.map_label(code, found - {code}) for code in sorted(found)}
    overlaps = [f"{code} is part of {parent}" for code, parent in contained.items() if parent is not None]
    if overlaps:
        merged = sorted(code for code, parent in contained.items() if parent is None)
        raise ConfigError(
            f"expected sets whose classes do not contain one another, got\n{first_cases(overlaps, 10)}\nsay which "
            f"classes you want, for example dataset.classes=[{','.join(merged)}]"
        )
    return tuple(sorted(found))


def _checked(classes: Sequence[str], found: set[str]) -> tuple[str, ...]:
    for code in classes:
        if code not in taxonomy.DIAGNOSES and code not in found:
            raise ConfigError(
                f"expected dataset.classes to list codes of the taxonomy or labels of the sets, got {code!r}; "
                f"{nearest(str(code), {*taxonomy.codes(), *found})}"
            )
    if len(set(classes)) < max(len(classes), 2):
        raise ConfigError(f"expected at least two different classes in dataset.classes, got {list(classes)}")
    return tuple(classes)


def _report(
    tables: Mapping[str, pd.DataFrame],
    mapped: Mapping[str, str | None],
    targets: Sequence[str],
    on_unmappable: OnUnmappable,
) -> None:
    cases = [
        f"{label!r} of {name}: {count} images"
        for name, table in tables.items()
        for label, count in table["label"].value_counts().sort_index().items()
        if mapped[str(label)] is None
    ]
    if cases and on_unmappable == "error":
        raise DataError(
            f"expected labels that belong to one of {', '.join(targets)}, but these do not, or to several:\n"
            f"{first_cases(cases, 20)}\nchange dataset.classes, or set dataset.on_unmappable=skip to go on without them"
        )
    for case in cases:
        logger.warning("left out, because the label belongs to none of the classes: %s", case)
    for target in targets:
        if target not in mapped.values():
            logger.warning("dataset.classes lists %s, but no image of the sets belongs to it", target)


def _prefixed(table: pd.DataFrame, name: str, mapped: Mapping[str, str | None]) -> pd.DataFrame:
    labels = [None if pd.isna(label) else mapped[label] for label in table["label"]]
    ids = {column: table[column].map(lambda value: f"{name}/{value}", na_action="ignore") for column in IDS}
    for column in ("lesion_id", "patient_id"):
        ids[column] = ids[column].astype(object).where(table[column].notna(), None)
    return table.assign(
        source_label=table["label"], label=pd.Series(labels, index=table.index, dtype=object), source=name, **ids
    )

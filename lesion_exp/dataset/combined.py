"""Several data sets as one, their labels brought to common classes by the taxonomy."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final, Literal, get_args

import pandas as pd

import lesion_exp.dataset
from lesion_exp import taxonomy
from lesion_exp.dataset.info import DatasetInfo
from lesion_exp.dataset.table import STANDARD_COLUMNS, config_texts
from lesion_exp.errors import ConfigError, DataError, did_you_mean, first_cases, nearest

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
    told_apart = {name: _told_apart(name, sets[name], table) for name, table in tables.items()}
    found = {code for table in tables.values() for code in table["label"].dropna()}
    targets = _common_classes(found, told_apart) if classes is None else _checked(classes, found)
    mapped = {
        name: {
            label: taxonomy.map_label(label, targets, told_apart[name])
            for label in sorted(set(table["label"].dropna()))
        }
        for name, table in tables.items()
    }
    _report(tables, mapped, told_apart, targets, on_unmappable)
    parts = [_mapped_and_prefixed(table, name, mapped[name]) for name, table in tables.items()]
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


def _told_apart(name: str, given: str | Mapping[str, Any] | None, table: pd.DataFrame) -> frozenset[str]:
    """The classes between which the set itself distinguishes: those published, and those found."""
    wanted = name if isinstance(given, str) or given is None else str(given.get("set", name))
    info: DatasetInfo = _module(wanted).INFO
    found = frozenset(map(str, table["label"].dropna()))
    return found | frozenset(info.published_counts) if found & set(info.published_counts) else found


def _common_classes(found: set[str], told_apart: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """The labels in `found`, if no one contains another; two names of one class become its code."""
    names: dict[str, set[str]] = defaultdict(set)
    for label in found:
        names[taxonomy.code_of(label) or label].add(label)
    found = {code if len(labels) > 1 else min(labels) for code, labels in names.items()}
    overlaps: dict[str, str] = {}
    for of_set in told_apart.values():
        for label in sorted(of_set & found):
            parent = taxonomy.map_label(label, found - {label}, of_set)
            if parent is not None:
                overlaps[label] = f"{label} is part of {parent}"
    if overlaps:
        merged = sorted(found - set(overlaps))
        raise ConfigError(
            f"expected sets whose classes do not contain one another, got\n{first_cases(overlaps.values(), 10)}\nsay "
            f"which classes you want, for example dataset.classes=[{','.join(merged)}]"
        )
    return tuple(sorted(found))


def _checked(classes: Sequence[str], found: set[str]) -> tuple[str, ...]:
    classes = config_texts(classes, "dataset.classes")
    for code in classes:
        hint = taxonomy.hint(code) or did_you_mean(code, found)
        if code not in taxonomy.DIAGNOSES and code not in found:
            raise ConfigError(
                f"expected dataset.classes to list codes of the taxonomy or labels of the sets, got {code!r}"
                f"{hint}\nlabels of the sets: {', '.join(sorted(found))}"
            )
    if len(set(classes)) < max(len(classes), 2):
        raise ConfigError(f"expected at least two different classes in dataset.classes, got {list(classes)}")
    return tuple(classes)


def _report(
    tables: Mapping[str, pd.DataFrame],
    mapped: Mapping[str, Mapping[str, str | None]],
    told_apart: Mapping[str, frozenset[str]],
    targets: Sequence[str],
    on_unmappable: OnUnmappable,
) -> None:
    cases = []
    for name, table in tables.items():
        counts = table["label"].value_counts()
        for label, target in mapped[name].items():
            count = counts[label]
            if target is None:
                wider = taxonomy.map_label(label, targets)
                why = f", where {wider} is another class" if wider else ""
                cases.append(f"{label!r} of {name}: {count} images{why}")
            elif target != label:
                _say_mapped(
                    f"{count} images of {name} with the label {label!r} become {target}",
                    label,
                    target,
                    told_apart[name],
                )
    if cases and on_unmappable == "error":
        raise DataError(
            f"expected labels that belong to one of {', '.join(targets)}, but these do not, or to several:\n"
            f"{first_cases(cases, 20)}\nchange dataset.classes, or set dataset.on_unmappable=skip to go on without them"
        )
    for case in cases:
        logger.warning("left out, because the label belongs to none of the classes: %s", case)
    for target in targets:
        if not any(target in of_set.values() for of_set in mapped.values()):
            logger.warning("dataset.classes lists %s, but no image of the sets belongs to it", target)


def _say_mapped(text: str, label: str, target: str, told_apart: frozenset[str]) -> None:
    if target in told_apart:
        logger.warning("%s, though the set has both classes: one contains the other", text)
    elif not taxonomy.is_wholly(label, target):
        logger.warning("%s, though only a part of such lesions belongs there", text)
    else:
        logger.info("%s", text)


def _mapped_and_prefixed(table: pd.DataFrame, name: str, mapped: Mapping[str, str | None]) -> pd.DataFrame:
    """`table` without the rows whose label belongs to no class, its other labels mapped and its ids prefixed."""
    table = table[~table["label"].isin([label for label, target in mapped.items() if target is None])]
    labels = [None if pd.isna(label) else mapped[label] for label in table["label"]]
    ids = {column: table[column].map(lambda value: f"{name}/{value}", na_action="ignore") for column in IDS}
    for column in ("lesion_id", "patient_id"):
        ids[column] = ids[column].astype(object).where(table[column].notna(), None)
    return table.assign(
        source_label=table["label"], label=pd.Series(labels, index=table.index, dtype=object), source=name, **ids
    )

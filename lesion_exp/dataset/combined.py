"""Combines several data sets into one, and maps their labels to common classes by the taxonomy."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, get_args

import pandas as pd

import lesion_exp.dataset
from lesion_exp import taxonomy
from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.path_patterns import as_value
from lesion_exp.dataset.table import STANDARD_COLUMNS, DatasetInfo, config_texts
from lesion_exp.errors import ConfigError, DataError, check_choice, did_you_mean, first_cases, nearest
from lesion_exp.image_ids import ARCHIVE_ID, DOWNSAMPLED, clean_name, without_suffix

OnUnmappable = Literal["error", "skip"]
SharedImages = Literal["keep", "first"]

_QUOTED: Final = re.compile(r"'dataset\.(?P<key>\w+)=(?P<value>(?:[^'\n]|'\\'')*)'")
_PLAIN: Final = re.compile(r"\bdataset\.(?P<key>(?!sets\b)\w+)=(?P<value>\{[^}\n]*\}|\[[^\]\n]*\]|[^\s,;)]+)")
"""Overrides in messages: `_QUOTED` as `as_override` writes them, `_PLAIN` inside a sentence."""
_SIMPLE: Final = re.compile(r"\w+")
"""Names of sets that can stand in a key of an override."""

INFO: Final = DatasetInfo(
    name="combined",
    title="several data sets as one",
    citation="those of its parts",
    licence="the strictest of its parts",
    where="the folders of its parts, named in dataset.sets",
)


def read_combined(
    sets: Mapping[str, str | Mapping[str, Any] | None],
    classes: Sequence[str] | None = None,
    on_unmappable: OnUnmappable = "error",
    shared_images: SharedImages = "keep",
) -> pd.DataFrame:
    """Reads several data sets and returns their tables as one, with labels among `classes`.

    `source` is the name of the data set, which also becomes a prefix of the image ids (`ham10000/ISIC_0024306`). Data
    sets of one archive share the ids of lesions and patients, whose prefix is the archive (`isic/HAM_0000118`). An
    image that several data sets contain under the same id of an archive has that id in `shared_image_id`. The original
    label is in `source_label`.

    Args:
        sets: name of a data set -> its root, or the arguments of its reader (`ham10000: {root: DIR}`). Any other name
            is possible with the key `set` (`clinic_a: {set: csv, root: DIR, table: labels.csv}`).
        classes: the classes to which labels are mapped; None: the classes of the data sets, if none of them contains
            another.
        on_unmappable: `error` or `skip`, for images whose label belongs to none of the classes.
        shared_images: `keep` all rows of an image that several data sets contain, or only the `first`.

    Raises:
        ConfigError: a data set, an argument or a class is unknown, or classes overlap.
        DataError: some labels belong to none of the classes, or a reader raises it.
    """
    check_choice("dataset.on_unmappable", on_unmappable, get_args(OnUnmappable))
    check_choice("dataset.shared_images", shared_images, get_args(SharedImages))
    if not isinstance(sets, Mapping) or not sets:
        raise ConfigError(f"expected dataset.sets to map names of data sets to their folders, got {sets!r}")
    tables = {name: _read(name, sets) for name in sets}
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
    _record_mappings(tables, mapped, told_apart, targets, on_unmappable)
    archives = {name: _info(name, sets[name]).archive for name in tables}
    parts = [_mapped_and_prefixed(table, name, mapped[name], archives[name]) for name, table in tables.items()]
    combined = _with_shared_images(pd.concat(parts, ignore_index=True), shared_images)
    _warn_of_nameless_copies(sets, archives)
    own = [column for column in combined.columns if column not in STANDARD_COLUMNS]
    for column in ("official_split", "clinical_path"):
        if column in own:
            values = combined[column].astype(object)
            combined[column] = values.where(values.notna(), None)
    return combined[[*STANDARD_COLUMNS, *own]]


def set_names() -> tuple[str, ...]:
    """Returns the names of the data sets that can be combined: modules `NAME` of this package with a `read_NAME`."""
    names = {module.name for module in pkgutil.iter_modules(lesion_exp.dataset.__path__)} - {INFO.name}
    return tuple(sorted(name for name in names if hasattr(_module(name), f"read_{name}")))


def views_of(sets: Any) -> dict[str, str | None]:
    """Returns what the photographs of each set in `sets` are, see `DatasetInfo.view`; None if that is not known."""
    named = {
        name: str(given.get("set", name) if isinstance(given, Mapping) else name)
        for name, given in (sets.items() if isinstance(sets, Mapping) else ())
    }
    return {name: _module(wanted).INFO.view if wanted in set_names() else None for name, wanted in named.items()}


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{lesion_exp.dataset.__name__}.{name}")


def _reader(name: str, given: str | Mapping[str, Any] | None) -> Callable[[], pd.DataFrame]:
    root = given.get("root", "") if isinstance(given, Mapping) else given or ""
    if not isinstance(root, str | Path) or isinstance(given, Path):
        raise ConfigError(
            f"expected a folder, or arguments in braces, for dataset.sets.{name}, got {given!r}; write "
            f"dataset.sets={{{name}: DIR}} or dataset.sets={{{name}: {{root: DIR}}}}"
        )
    arguments = {"root": given} if isinstance(given, str) else dict(given or {})
    wanted = str(arguments.pop("set", name))
    if wanted not in set_names():
        raise ConfigError(
            f"expected the name of a data set in dataset.sets, got {wanted!r}; for a name of your choice, write "
            f"{name}: {{set: NAME, root: DIR}}; {nearest(wanted, set_names())}"
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


def _read(name: str, sets: Mapping[str, str | Mapping[str, Any] | None]) -> pd.DataFrame:
    """Reads the set `name`. The messages of its reader are changed to name the keys of `dataset.sets`."""
    read = _reader(name, sets[name])
    try:
        return read()
    except (ConfigError, DataError) as error:
        raise type(error)(_with_keys_of_sets(str(error), name, sets)) from error


def _with_keys_of_sets(message: str, name: str, sets: Mapping[str, str | Mapping[str, Any] | None]) -> str:
    """Returns a message of the reader of the set `name` with the keys that work with `dataset=combined`.

    `dataset.root=DIR` becomes an override of the folder of this set, which the verbs on a run take, too, if its data
    have moved. Other `dataset.KEY=VALUE` become an override of the whole `dataset.sets`, because a set that is given by
    its folder alone has no keys to override. A key without a value becomes `dataset.sets.NAME.KEY`.
    """
    given = sets[name]
    arguments = {"root": given} if isinstance(given, str) else dict(given or {})

    def typed(match: re.Match[str]) -> str:
        key, value = match["key"], match["value"]
        if key == "root" and _SIMPLE.fullmatch(name):
            text = f"dataset.sets.{name}{'.root' if isinstance(given, Mapping) else ''}={value}"
            return f"'{text}'" if match.re is _QUOTED else text
        ours = {**{each: as_value(known) for each, known in arguments.items()}, key: value}
        parts = {each: as_value(known) for each, known in sets.items()}
        parts[name] = "{" + ", ".join(f"{each}: {known}" for each, known in ours.items()) + "}"
        text = "dataset.sets={" + ", ".join(f"{each}: {known}" for each, known in parts.items()) + "}"
        return f"'{text}'"

    message = _QUOTED.sub(typed, message)
    message = _PLAIN.sub(typed, message)
    return re.sub(r"(?<![\w.])dataset\.(?!sets\b)(\w+)(?!=)", rf"dataset.sets.{name}.\1", message)


def _told_apart(name: str, given: str | Mapping[str, Any] | None, table: pd.DataFrame) -> frozenset[str]:
    """Returns the classes that the data set itself distinguishes: those in its table, and the published ones."""
    info = _info(name, given)
    found = frozenset(map(str, table["label"].dropna()))
    return found | frozenset(info.published_counts) if found & set(info.published_counts) else found


def _info(name: str, given: str | Mapping[str, Any] | None) -> DatasetInfo:
    wanted = name if isinstance(given, str) or given is None else str(given.get("set", name))
    info: DatasetInfo = _module(wanted).INFO
    return info


def _common_classes(found: set[str], told_apart: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Returns the labels in `found` as classes; two names of one class become its code.

    Raises:
        ConfigError: one of the classes contains another.
    """
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
            f"expected sets whose classes do not contain one another, got\n{first_cases(overlaps.values(), 10)}\n"
            f"choose the classes, for example dataset.classes=[{','.join(merged)}]"
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
        raise ConfigError(
            f"expected at least two different classes in dataset.classes, got {list(classes)}; list each class once"
        )
    return tuple(classes)


def _record_mappings(
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
                why = f", in which {wider} is another class" if wider else ""
                cases.append(f"{label!r} of {name}: {count} images{why}")
            elif target != label:
                _record_mapping(
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
        record_finding(f"left out, because the label belongs to none of the classes: {case}", level="warning")
    for target in targets:
        if not any(target in of_set.values() for of_set in mapped.values()):
            record_finding(f"dataset.classes lists {target}, but no image of the sets belongs to it", level="warning")


def _record_mapping(text: str, label: str, target: str, told_apart: frozenset[str]) -> None:
    if target in told_apart:
        record_finding(f"{text}, though the set has both classes: one contains the other", level="warning")
    elif not taxonomy.is_wholly(label, target):
        record_finding(f"{text}, though only some of these lesions belong to that class", level="warning")
    else:
        record_finding(text)


def _mapped_and_prefixed(
    table: pd.DataFrame, name: str, mapped: Mapping[str, str | None], archive: str | None
) -> pd.DataFrame:
    """Returns `table` with mapped labels and prefixed ids, without the rows whose label belongs to no class."""
    table = table[~table["label"].isin([label for label, target in mapped.items() if target is None])]
    labels = [None if pd.isna(label) else mapped[label] for label in table["label"]]
    image_ids = {column: f"{name}/" + table[column] for column in ("row_id", "image_id")}
    named = {
        column: _series(
            [_of_archive(value, archive) or f"{name}/{value}" if value else None for value in table[column]], table
        )
        for column in ("lesion_id", "patient_id")
    }
    names = [without_suffix(clean_name(image_id)).rpartition("/")[2] for image_id in table["image_id"]]
    pictures = [_of_archive(image_name.removesuffix(DOWNSAMPLED), archive) for image_name in names]
    return table.assign(
        source_label=table["label"],
        label=_series(labels, table),
        source=name,
        shared_image_id=_series(pictures, table),
        **image_ids,
        **named,
    )


def _series(values: Sequence[str | None], table: pd.DataFrame) -> pd.Series:
    return pd.Series(values, index=table.index, dtype=object)


def _of_archive(value: str, archive: str | None) -> str | None:
    """Returns an id with its archive as prefix, or None if the id is not from an archive.

    In a table of the user's own, an id of the archive may have the ending of a file (`ISIC_0024306.jpg`).
    """
    if archive is None and ARCHIVE_ID.fullmatch(plain := without_suffix(clean_name(value))):
        archive, value = "isic", plain
    return None if archive is None else f"{archive}/{value}"


def _with_shared_images(combined: pd.DataFrame, shared_images: SharedImages) -> pd.DataFrame:
    """Returns `combined` with `shared_image_id` only for images of several sets, and the same lesion for all rows."""
    picture = combined["shared_image_id"]
    shared = combined.groupby("shared_image_id")["source"].transform("nunique") > 1
    if not shared.any():
        return combined.drop(columns="shared_image_id")
    picture = picture.where(shared, None)
    lesion = combined["lesion_id"].groupby(picture).transform("first")
    lesion = lesion.where(lesion.notna(), picture)
    combined = combined.assign(
        shared_image_id=picture, lesion_id=combined["lesion_id"].where(combined["lesion_id"].notna(), lesion)
    )
    rows = combined[shared]
    _warn_of_shared_images(rows, shared_images)
    kept = ~(shared & picture.duplicated()) if shared_images == "first" else pd.Series(True, index=combined.index)
    return combined[kept].reset_index(drop=True)


def _warn_of_shared_images(rows: pd.DataFrame, shared_images: SharedImages) -> None:
    of_picture = rows.groupby("shared_image_id", sort=True)
    what = (
        "of which only the first row is kept"
        if shared_images == "first"
        else "and count once for each of these sets; dataset.shared_images=first keeps one row of each image"
    )
    record_finding(
        f"{of_picture.ngroups:,} images are in several of the sets ({', '.join(rows['source'].unique())}), {what}",
        list(of_picture.groups),
        level="warning",
    )
    for column, name in (("label", "labels"), ("lesion_id", "lesion ids")):
        several = rows[of_picture[column].transform("nunique") > 1].groupby("shared_image_id", sort=True)
        if several.ngroups:
            cases = [f"{picture} ({', '.join(sorted(set(found)))})" for picture, found in several[column]]
            record_finding(
                f"{several.ngroups:,} images have different {name} in different sets", cases, level="warning"
            )


def _warn_of_nameless_copies(
    sets: Mapping[str, str | Mapping[str, Any] | None], archives: Mapping[str, str | None]
) -> None:
    """Warns if DermaMNIST is combined with sets that share its images: they have no ids and are too small to match."""
    nameless = sorted(name for name in sets if _info(name, sets[name]).name == "dermamnist")
    others = sorted(name for name, archive in archives.items() if archive == "isic")
    if nameless and others:
        record_finding(
            f"{', '.join(nameless)} contains images of HAM10000 without their ids. It is not known which of them "
            f"{', '.join(others)} contains too, so the audit cannot find them in two parts of a split; leave one of "
            f"the sets out",
            level="warning",
        )

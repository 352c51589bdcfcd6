"""Loads and checks the data of a job: table, image store, split and audit."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Final

import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.choices import DRAWN
from lesion_exp.config.instantiate import instantiate, resolve_target
from lesion_exp.config.project import Project
from lesion_exp.config.registered import check_registered
from lesion_exp.data.copy_search import copy_ids
from lesion_exp.data.data_fingerprint import DataFingerprint
from lesion_exp.data.lesion_masks import record_mask_findings
from lesion_exp.data.store import ImageStore, is_built, open_or_build
from lesion_exp.dataset.findings import Finding, collected_findings, record_finding, repeat_findings
from lesion_exp.dataset.loading import Flow, TableOptions, leave_out_unreadable, load_table, require_any_mask, to_target
from lesion_exp.dataset.path_patterns import as_override
from lesion_exp.dataset.pseudo_labels import (
    BINARY,
    CONFIDENCE,
    PseudoLabels,
    PseudoOptions,
    pseudo_rows,
    without_pseudo,
)
from lesion_exp.dataset.table import UNLABELLED, DatasetInfo
from lesion_exp.errors import ConfigError, DataError, LeakageError, first_cases
from lesion_exp.evaluation.predictions import known_rows
from lesion_exp.model.inputs import SAMPLE_KEYS, store_request
from lesion_exp.progress import Stage
from lesion_exp.split import COMMON_KEYS as SPLIT_KEYS
from lesion_exp.split.assign import apply_splitter
from lesion_exp.split.audit import Audit, audit, shares_dealt
from lesion_exp.split.groups import COPY_ID, assign_groups
from lesion_exp.split.manifest import split_hash
from lesion_exp.split.pseudo_ids import links_by_meant_ids
from lesion_exp.split.training_share import with_training_share
from lesion_exp.training.photographs import with_view

log = logging.getLogger(__name__)

CROSSING: Final = "the lesion, the patient or a near-duplicate of the image is in validation or test"
"""Why a pseudo-labelled image is left out of the training part."""
MAY_CROSS: Final = (
    "the id of the image, its lesion or its patient in the file is one of validation or test, apart from the name of a "
    "data set before it"
)
"""Another such reason: the file of pseudo-labels may have been written for other data."""
_AHEAD: Final[dict[str, tuple[pd.DataFrame, tuple[Finding, ...]]]] = {}
"""Tables that `read_ahead` has read, with their findings, by their readers."""
TABLE_OPTIONS: Final = frozenset(option.name for option in fields(TableOptions))
PSEUDO_KEYS: Final = frozenset(option.name for option in fields(PseudoOptions))
TABLE_KEYS: Final = TABLE_OPTIONS | PSEUDO_KEYS


@dataclass(frozen=True)
class LoadedData:
    """A checked data set: its table with content hashes, its image store, and how many images each filter left."""

    table: pd.DataFrame
    store: ImageStore
    flow: Flow
    info: DatasetInfo | None
    data: DataFingerprint
    pseudo: Mapping[str, Any] | None = None
    """Where the pseudo-labels in the table come from, see `PseudoLabels.facts`; None if there are none."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of everything that training reads."""
        return self.data.total


@dataclass(frozen=True)
class SplitData:
    """A data set with its split and the audit of the split."""

    loaded: LoadedData
    table: pd.DataFrame
    audit: Audit
    split_hash: str
    """Of the split before `split.train_share` is taken, which changes neither validation nor test."""
    leaky: bool
    classes: tuple[str, ...]
    """The classes of the training part. Images of other classes in the test part are marked by `is_unknown`. In a
    pretraining, the classes are those of the images with labels, if there are any."""

    @cached_property
    def statistics(self) -> dict[str, dict[str, list[float]]]:
        """Mean and deviation of the colours of the training part, by the preprocessing after which they were measured;
        the first job that asks for them adds them."""
        return {}


def load_data(config: Mapping[str, Any]) -> LoadedData:
    """Loads the data set of `config` (of a whole job) and decodes every image once.

    Raises:
        DataError: see `load_table` and `leave_out_unreadable`.
        ConfigError: options contradict each other, or a target in `config` is not registered.
    """
    check_registered(config)
    flow = Flow()
    pseudo = pseudo_labels_of(config)
    with Stage("reading the table of the data set", announced=False):
        table = read_table(config, flow, pseudo)
    request = store_request(config)
    if request.masks:
        require_any_mask(table, str(config["dataset"]["mask"]))
    with Stage("opening or building the image store", background=True), _reading() as progress:
        store = open_or_build(table, request, Project.from_config(config).data_cache, progress)
    with Stage("reading the contents of the images"):
        loaded = _with_contents(config, table, store, flow, pseudo)
    return _with_copies(config, loaded)


def _with_copies(config: Mapping[str, Any], loaded: LoadedData) -> LoadedData:
    """`loaded` with the column `copy_id` in its table, if `split.near_duplicates` asks for it."""
    if config["split"].get("near_duplicates") != "features":
        return loaded
    with _reading("looking for copies in") as progress:
        found = copy_ids(loaded.table, Project.from_config(config).data_cache, progress)
    return replace(loaded, table=loaded.table.assign(**{COPY_ID: found}))


@contextmanager
def _reading(what: str = "reading") -> Iterator[Callable[[int, int], None]]:
    """A progress callback (done, total) for the builder of the store, which is not called if the store exists."""
    stage: Stage | None = None

    def progress(done: int, total: int) -> None:
        nonlocal stage
        if stage is None:
            stage = Stage(what, total, "images")
            stage.begin(done - 1)
        stage.reach(done)

    try:
        yield progress
    finally:
        if stage is not None:
            stage.end()


def present_fingerprint(config: Mapping[str, Any]) -> DataFingerprint | None:
    """Returns the fingerprint of the data of `config` (of a whole job).

    Returns None if every image would have to be decoded for it.

    Raises:
        UserError: see `load_data`.
    """
    check_registered(config)
    flow, pseudo = Flow(), pseudo_labels_of(config)
    table = read_table(config, flow, pseudo)
    request, cache = store_request(config), Project.from_config(config).data_cache
    if not is_built(table, request, cache):
        return None
    return _with_contents(config, table, open_or_build(table, request, cache), flow, pseudo).data


def is_pretraining(config: Mapping[str, Any]) -> bool:
    """Returns whether `config` (of a whole job) pretrains without labels, in place of training a classifier."""
    return config.get("pretrain") is not None


def _reader(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in TABLE_KEYS | SAMPLE_KEYS | {"name"}}


def pseudo_labels_of(config: Mapping[str, Any]) -> PseudoLabels | None:
    """Returns the pseudo-labels of `config` (of a whole job); None if it has none, or they have the weight 0.

    Raises:
        ConfigError: the job pretrains, or a value is out of range.
        DataError: the file cannot be used.
    """
    options = PseudoOptions(**{key: config["dataset"][key] for key in PSEUDO_KEYS if key in config["dataset"]})
    if options.pseudo_labels is not None and is_pretraining(config):
        raise ConfigError(
            "expected dataset.pseudo_labels=null with pretrain, which needs no labels, got a file; leave it out"
        )
    return PseudoLabels(options) if options.are_used else None


@contextmanager
def read_ahead(node: Mapping[str, Any]) -> Iterator[None]:
    """Reads the data set of `node` (the node `dataset`), and keeps its table for a `read_table` of it in the block.

    So what is wrong with its files is said before the block imports torch. Generated data are not read ahead: drawing
    their images may take longer than the imports.

    Raises:
        DataError: see `load_table`.
        ConfigError: options contradict each other, or the target is not registered.
    """
    reader = _reader(node)
    key = _ahead_key(reader)
    if node.get("_target_") != DRAWN:
        with collected_findings() as found, Stage("reading the table of the data set", announced=False):
            table = instantiate(reader, "dataset")
        _AHEAD[key] = (table, tuple(found))
    try:
        yield
    finally:
        _AHEAD.pop(key, None)  # the files may change after the block


def _ahead_key(reader: Mapping[str, Any]) -> str:
    return json.dumps(reader, sort_keys=True, default=str)


def _read_source(reader: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the table that the target of `reader` returns, or has returned to `read_ahead`."""
    known = _AHEAD.pop(_ahead_key(reader), None)
    if known is None:
        table: pd.DataFrame = instantiate(reader, "dataset")
        return table
    repeat_findings(known[1])
    return known[0]


def read_table(
    config: Mapping[str, Any],
    flow: Flow,
    pseudo: PseudoLabels | None = None,
    *,
    needs_images: bool = True,
    needs_labels: bool = True,
) -> pd.DataFrame:
    """Returns the table of the data set of `config` (of a whole job), before any image is read.

    `flow` records the counts.

    The images of `pseudo` follow those that people labelled. Without `needs_images`, rows may have no image file.
    Images without a label are kept in a pretraining, and without `needs_labels`.

    Raises:
        DataError: see `load_table`.
        ConfigError: options contradict each other, or a target in `config` is not registered.
    """
    node = config["dataset"]
    reader = _reader(node)
    options = TableOptions(**{key: node[key] for key in TABLE_OPTIONS})

    def read() -> pd.DataFrame:
        table = with_view(_read_source(reader), node)
        return table if pseudo is None else pseudo.separate(table)

    labels = needs_labels and not is_pretraining(config)
    table = load_table(read, options, flow, needs_labels=labels, needs_images=needs_images)
    if pseudo is None:
        return table
    with collected_findings() as found:
        table = pseudo.append(table, options.filter, config["task"]["target"])
    flow.findings.extend(found)
    flow.note("with pseudo-labelled images, for training alone", table)
    return table


def _with_contents(
    config: Mapping[str, Any], table: pd.DataFrame, store: ImageStore, flow: Flow, pseudo: PseudoLabels | None
) -> LoadedData:
    node = config["dataset"]
    options = TableOptions(**{key: node[key] for key in TABLE_OPTIONS})
    info = getattr(sys.modules[resolve_target(node["_target_"], "dataset").__module__], "INFO", None)
    if isinstance(info, DatasetInfo):
        info = replace(info, published_counts=info.counts_for(_reader(node)))
    table = leave_out_unreadable(table, store.errors, options, flow)
    with collected_findings() as found:
        record_mask_findings(table, store)
    flow.findings.extend(found)
    hashes = store.fingerprints(table["image_id"])
    table = _to_target(pd.concat([table, hashes], axis=1), config["task"]["target"], options.filter)
    data = DataFingerprint.of(without_pseudo(table), store, config["split"].get("path"))
    if pseudo is None:
        return LoadedData(table, store, flow, info, data)
    facts = pseudo.facts()
    data = data.with_pseudo_labels(table[pseudo_rows(table)], facts["sha256"])
    return LoadedData(table, store, flow, info, data, facts)


def _to_target(table: pd.DataFrame, target: Any, chosen: str | None) -> pd.DataFrame:
    """`to_target` of the rows that people labelled, and of those whose pseudo-labels are not of the target already."""
    known = to_target(without_pseudo(table), target, chosen)
    rows = table[pseudo_rows(table)]
    if rows.empty:
        return known
    is_binary = rows["label"].isin(BINARY)
    if target == "diagnosis":
        if is_binary.any() and not set(BINARY) & set(known["label"]):
            raise DataError(
                f"expected pseudo-labels that are diagnoses, for task.target=diagnosis, got {int(is_binary.sum()):,} "
                f"that are malignant or benign; predict them with a run of task.target=diagnosis, or set "
                f"task.target=malignant"
            )
        return pd.concat([known, rows])
    binary = rows[is_binary].assign(diagnosis=None)
    return pd.concat([known, *([to_target(rows[~is_binary], target)] if not is_binary.all() else []), binary])


def split_data(config: Mapping[str, Any], loaded: LoadedData) -> SplitData:
    """Splits `loaded` as `config` says, and audits the split.

    Raises:
        LeakageError: the audit fails, or the splitter leaks by design, and `split.allow_leakage` is not true.
        DataError: there are fewer than two classes to train on, or the training part lacks a class of the validation
            part, or of a test part that was drawn from the same images.
    """
    node = config["split"]
    splitter = make_splitter(node)
    labels = sorted(without_pseudo(loaded.table)["label"].unique())
    if len(labels) < 2 and not is_pretraining(config):
        chosen = config["dataset"]["filter"]
        remedy = f"loosen dataset.filter={chosen!r}" if chosen else "set dataset.root to a folder with several classes"
        raise DataError(f"expected at least two classes to tell apart, got {labels}; {remedy}")
    with Stage("splitting the data"):
        grouped = with_groups(node, without_pseudo(loaded.table))
        shares = shares_dealt(splitter, grouped)
        whole = apply_splitter(splitter, grouped)
        dealt = with_training_share(whole, node["train_share"], node["share_seed"])
        table = dealt if is_pretraining(config) else _with_unknown(dealt, test_is_dealt="test" in shares)
        table, pseudo = _with_pseudo_labels(loaded, grouped, table, node["near_duplicate_threshold"])
    with collected_findings() as found:
        _warn_of_mixed_parts(without_pseudo(table))
    loaded.flow.findings.extend(found)
    warnings = [found.in_a_line() for found in loaded.flow.findings if found.level == "warning"]
    with Stage("auditing the split"):
        # a share of the training part is meant to fall short of what the splitter dealt
        audited = audit(table, node["near_duplicate_threshold"], shares if node["train_share"] == 1 else None, warnings)
        audited = replace(audited, pseudo_labels=pseudo)
    labelled = without_pseudo(table)
    leaky = getattr(splitter, "leaks", False) or not audited.passed
    if leaky and not node["allow_leakage"]:
        raise LeakageError(
            f"expected a split in which nothing of the training part reappears, but this one leaks:\n"
            f"{audited.summary()}\nuse split=grouped, or split.allow_leakage=true to train all the same "
            f"(every result is then tagged leaky)"
        )
    if is_pretraining(config):
        known = set(table.loc[table["split"] == "train", "label"]) - {UNLABELLED}
        return SplitData(loaded, table, audited, split_hash(whole), leaky, tuple(sorted(known)))
    classes = _trained_classes(labelled, config["task"]["target"], config["dataset"]["filter"], node if shares else {})
    return SplitData(loaded, table, audited, split_hash(whole), leaky, classes)


def _with_pseudo_labels(
    loaded: LoadedData, grouped: pd.DataFrame, dealt: pd.DataFrame, threshold: float
) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """`dealt` with the pseudo-labelled images in its training part, and where they come from, for the audit.

    The split is that of the images which people labelled: it does not change with the pseudo-labels. Left out are
    pseudo-labelled images of a group that is in validation or test, by any chain of ids, copies and near-duplicates,
    or would be if ids counted without the name of a data set before them, and copies of an image that has a label.
    """
    is_pseudo = pseudo_rows(loaded.table)
    if loaded.pseudo is None:
        return dealt, None
    both = pd.concat([grouped, loaded.table[is_pseudo]], ignore_index=True)
    links = links_by_meant_ids(both)
    group = assign_groups(both, threshold)
    wider = assign_groups(both, threshold, links) if len(links) else group
    held_out = both["image_id"].isin(set(dealt.loc[dealt["split"] != "train", "image_id"]))
    rows = both[len(grouped) :].assign(group=wider[len(grouped) :], split="train")
    copies = rows["sha256"].isin(grouped["sha256"])
    crossing = group[rows.index].isin(group[held_out])
    may_cross = rows["group"].isin(wider[held_out]) & ~crossing
    kept = rows[~copies & ~crossing & ~may_cross]
    left_out = dict(loaded.pseudo["left_out"])
    copied = copies & ~crossing & ~may_cross
    reasons = {"the same image has a label": copied, CROSSING: crossing, MAY_CROSS: may_cross}
    for reason, which in reasons.items():
        left_out |= {reason: int(which.sum())} if which.any() else {}
    if kept.empty:
        raise DataError(
            f"expected pseudo-labelled images for training, but none is left: "
            f"{'; '.join(f'{count:,}: {reason}' for reason, count in left_out.items())}; leave dataset.pseudo_labels "
            f"out"
        )
    if "fold" in dealt:
        kept = kept.assign(fold=-1)  # in no fold's test part
    if taxonomy.IS_UNKNOWN in dealt:
        kept = kept.assign(**{taxonomy.IS_UNKNOWN: False})
    confidences = kept.groupby("label")[CONFIDENCE].mean()
    facts = {
        **loaded.pseudo,
        "left_out": left_out,
        "images": len(kept),
        "counts": {str(name): int(count) for name, count in kept["label"].value_counts().sort_index().items()},
        "mean_confidence": {str(name): round(float(mean), 4) for name, mean in confidences.dropna().items()},
    }
    return pd.concat([dealt, kept], ignore_index=True), facts


def make_splitter(node: Mapping[str, Any]) -> Any:
    """Builds the splitter that `node` (the key `split` of a job) describes."""
    return instantiate({key: value for key, value in node.items() if key not in SPLIT_KEYS}, "split")


def with_groups(node: Mapping[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """`table` with the column `group` that splitters read; `node` is the key `split` of a job."""
    return table.assign(group=assign_groups(table, node["near_duplicate_threshold"]))


def _warn_of_mixed_parts(table: pd.DataFrame) -> None:
    """Warns if images of the test or validation part that the data set defines itself are trained on."""
    if "official_split" not in table:
        return
    for part in ("test", "val"):
        mixed = (table["official_split"] == part) & (table["split"] == "train")
        if mixed.any():
            record_finding(
                f"{mixed.sum():,} images of the data set's own {part} part are in the training part of this split, so "
                f"that its results do not compare with those on that {part} part; set split=official to keep the parts "
                f"of the data set",
                level="warning",
            )


def _with_unknown(table: pd.DataFrame, *, test_is_dealt: bool) -> pd.DataFrame:
    """`table` with `is_unknown`, if a test part that was published or given has classes that train and val lack.

    If the test part was drawn from the same images, such a class has too few groups, which is an error instead.
    """
    elsewhere = set(table.loc[table["split"] != "test", "label"])
    unknown = ~table["label"].isin(elsewhere)
    return table if test_is_dealt or not unknown.any() else table.assign(**{taxonomy.IS_UNKNOWN: unknown})


def _trained_classes(
    table: pd.DataFrame, target: str, chosen: str | None, dealt_by: Mapping[str, Any]
) -> tuple[str, ...]:
    """Returns the classes of the training part.

    Args:
        table: the split table.
        target: the value of `task.target`.
        chosen: the `dataset.filter` in use, for messages.
        dealt_by: the key `split` of the job if the splitter dealt images; else empty.

    Raises:
        DataError: the training part lacks a class of another part, or has one class alone.
    """
    known = known_rows(table)
    trained = sorted(set(known.loc[known["split"] == "train", "label"]))
    if target == "malignant":
        for label in set(trained) - {"malignant", "benign"}:
            taxonomy.is_malignant(label)  # raises for undetermined labels, which may be tested but not trained on
    absent = known[~known["label"].isin(trained)]
    if len(absent):
        counts = absent.groupby(["label", "split"], as_index=False).size()
        cases = [f"{label}: {count:,} images in {part}" for label, part, count in counts.itertuples(index=False)]
        names = sorted(absent["diagnosis" if target == "malignant" else "label"].unique())
        without = f"label not in {json.dumps(names, ensure_ascii=False)}"
        leave_out = as_override("dataset.filter", f"({chosen}) and {without}" if chosen else without)
        other = _other_split(absent, dealt_by)
        raise DataError(
            f"expected every class in the training part, but some have no image there:\n{first_cases(cases)}\nleave "
            f"them out with {leave_out}{other}"
        )
    if len(trained) < 2:
        raise DataError(
            f"expected at least two classes to tell apart in the training part, got {trained}; "
            f"{f'loosen dataset.filter={chosen!r} or ' if chosen else ''}use another split"
        )
    return tuple(trained)


def _other_split(absent: pd.DataFrame, dealt_by: Mapping[str, Any]) -> str:
    """Returns the end of a message that names keys of the split by which the classes in `absent` may be trained on.

    It is empty if there are none. A class whose images are one group is tested by one of the folds, whatever the keys.
    """
    is_one = absent.groupby("label")["group"].nunique() == 1 if "group" in absent else pd.Series([False])
    if "num_folds" in dealt_by and is_one.any():
        return ", or use split=grouped, which trains on a class whose images belong to one lesion or patient"
    keys = [f"split.{key}" for key in ("ratios", "num_folds", "val_ratio", "seed") if key in dealt_by]
    return f", or use another {' or '.join(keys)}" if keys else ""


def published_differences(loaded: LoadedData) -> dict[str, tuple[int, int]]:
    """Maps each class whose count differs from the published one to (found, published); empty if none is published."""
    published = {} if loaded.info is None else dict(loaded.info.published_counts)
    found = loaded.flow.read_counts
    codes = sorted(set(published) | set(found)) if published else []
    return {
        code: (found.get(code, 0), published.get(code, 0)) for code in codes if found.get(code) != published.get(code)
    }

"""Which photographs of a data set a network sees: dermoscopic or clinical ones, or both of each lesion.

A data set has its dermoscopic photographs, or its only ones, at `image_path`, and further clinical ones at
`clinical_path`. `DatasetInfo.view` says of a published data set what these photographs are.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pandas as pd

from lesion_exp.dataset.combined import INFO as COMBINED
from lesion_exp.dataset.combined import set_names, views_of
from lesion_exp.dataset.display_name import display_name
from lesion_exp.dataset.findings import record_finding
from lesion_exp.dataset.table import DatasetInfo
from lesion_exp.errors import ConfigError, MissingPicturesError

log = logging.getLogger(__name__)

_DERMOSCOPIC, _CLINICAL, _BOTH = "dermoscopic", "clinical", "both"
_SHIPPED: Final = "lesion_exp.dataset."
_COLUMN: Final = "A table (dataset=csv) names their files in a column: add 'dataset.columns={clinical_path: COLUMN}'"


def with_view(table: pd.DataFrame, node: Mapping[str, Any]) -> pd.DataFrame:
    """Returns `table` with the photographs at `image_path` that the node `dataset` asks for; None where one is lacking.

    `dataset.view=dermoscopic` leaves all photographs as they are. With `clinical`, those of a data set that has no
    others stay, too.

    Raises:
        MissingPicturesError: no lesion has both photographs.
        ConfigError: there are no clinical photographs.
    """
    view, kinds = node["view"], _kinds(node)
    if view == _DERMOSCOPIC:
        _warn_of_mixed_kinds(kinds)
        return table
    images = table["image_path"].astype(object)
    clinical = table["clinical_path"] if "clinical_path" in table else pd.Series(None, index=table.index)
    clinical = clinical.astype(object).where(clinical.notna(), None)
    if view == _BOTH:
        if clinical.isna().all():
            raise _lacking_pairs(len(table), kinds)
        return table.assign(image_path=images.where(clinical.notna(), None))
    only = _of_rows(table, kinds) == _CLINICAL
    if clinical.isna().all() and not only.any():
        what = _in_words(kinds)
        found = f"images that are {what}" if what else f"images without one. {_COLUMN}"
        raise ConfigError(
            f"expected clinical photographs for dataset.view=clinical, got {len(table):,} {found}; "
            f"{'use' if what else 'or use'} dataset.view=dermoscopic, which shows the images as they are"
        )
    return table.assign(image_path=clinical.where(~only | clinical.notna(), images), mask_path=None)


def photographs(node: Mapping[str, Any]) -> str | None:
    """Returns what a job with this node `dataset` shows its network: `dermoscopic`, `clinical`, `both`, or the words of
    `DatasetInfo.view`. It is None if that is not known, or differs between the sets of `dataset=combined`.
    """
    if node["view"] in (_CLINICAL, _BOTH):
        return str(node["view"])
    shown = {_DERMOSCOPIC if kind == _BOTH else kind for kind in _kinds(node).values()}
    return shown.pop() if len(shown) == 1 else None


def view_elsewhere(own: Mapping[str, Any], other: Mapping[str, Any], chosen: str | None = None) -> str:
    """Returns the `dataset.view` with which a trained network sees another data set.

    The network sees photographs of the kind that it saw in training, where the other data set has them. Otherwise it
    sees those that there are, with a warning.

    Args:
        own: the node `dataset` of its job.
        other: the node `dataset` of the other data set.
        chosen: the view that the user set.

    Raises:
        ConfigError: `chosen` has another number of photographs of a lesion than the network reads.
    """
    if chosen is not None and chosen != own["view"] and _BOTH in (chosen, own["view"]):
        number = "two photographs" if own["view"] == _BOTH else "one photograph"
        raise ConfigError(
            f"expected no dataset.view={chosen}, since the network reads {number} of each lesion; leave it out"
        )
    view = chosen or _view_as_in_training(own, other)
    seen, shown = photographs(own), photographs({**other, "view": view})
    if seen is not None and shown is not None and seen != shown:
        log.warning(
            "the network was trained on photographs of another kind (%s) than it sees of %s (%s), of which it "
            "may know little",
            seen,
            display_name(other),
            shown,
        )
    elif seen is not None and chosen is None and view != own["view"]:
        log.info("the network sees the %s photographs of %s, as in its training", shown, display_name(other))
    return view


def can_show(node: Mapping[str, Any], kind: str | None) -> bool:
    """Returns whether the data set of the node `dataset` has pairs of photographs, so that `dataset.view` set to `kind`
    may choose the ones of that kind."""
    return kind in (_DERMOSCOPIC, _CLINICAL, _BOTH) and bool({_BOTH, None} & set(_kinds(node).values()))


@contextmanager
def as_in_training() -> Iterator[None]:
    """Raises, in place of `MissingPicturesError`, an error with a remedy for a network that is trained already.

    Raises:
        ConfigError: the data set has no pictures of a kind that the network reads.
    """
    try:
        yield
    except MissingPicturesError as error:
        raise ConfigError(
            f"{error.expected}. The network reads what it has read in training: name a data set that has it, or "
            f"another run"
        ) from error


def _view_as_in_training(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    offered = set(_kinds(other).values())
    if own["view"] == _BOTH:
        return _BOTH
    if photographs(own) != _CLINICAL:
        return _DERMOSCOPIC
    if own["view"] != _CLINICAL:  # each of several sets has to have clinical ones, or its images would be left out
        return _CLINICAL if offered and offered <= {_CLINICAL, _BOTH} else _DERMOSCOPIC
    may_be_named = None in offered  # in a column of a table
    return _CLINICAL if offered & {_CLINICAL, _BOTH} or may_be_named else _DERMOSCOPIC


def _kinds(node: Mapping[str, Any]) -> dict[str, str | None]:
    """Maps each set of `dataset=combined`, or the name of any other data set, to what its photographs are."""
    name, module = str(node.get("name", "")), str(node.get("_target_", "")).rpartition(".")[0]
    if not module and name in set_names():  # a checkpoint keeps the name alone
        module = f"{_SHIPPED}{name}"
    if module == f"{_SHIPPED}{COMBINED.name}":
        return views_of(node.get("sets"))
    # a reader of the user's own is known once it has read the data
    known = importlib.import_module(module) if module.startswith(_SHIPPED) else sys.modules.get(module)
    info = getattr(known, "INFO", None)
    return {name: info.view if isinstance(info, DatasetInfo) else None}


def _of_rows(table: pd.DataFrame, kinds: Mapping[str, str | None]) -> pd.Series:
    if len(kinds) == 1:
        return pd.Series(next(iter(kinds.values())), index=table.index, dtype=object)
    return table["source"].map(kinds)


def _in_words(kinds: Mapping[str, str | None]) -> str:
    """What the photographs are; empty if that is not known of all, or if they are pairs that lack the second."""
    found = set(kinds.values())
    return "" if found & {None, _BOTH} else " or ".join(sorted(map(str, found)))


def _lacking_pairs(count: int, kinds: Mapping[str, str | None]) -> MissingPicturesError:
    what = _in_words(kinds)
    found = f"images that are {what}" if what else f"images without a second photograph. {_COLUMN}"
    other = _CLINICAL if what == _CLINICAL else _DERMOSCOPIC
    return MissingPicturesError(
        f"expected a dermoscopic and a clinical photograph of each lesion for dataset.view=both, got {count:,} {found}",
        f"; {'use' if what else 'or use'} dataset.view={other}",
    )


def _warn_of_mixed_kinds(kinds: Mapping[str, str | None]) -> None:
    """Warns if the sets of a data set show photographs of different kinds, as far as that is known."""
    sets: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        if kind is not None:
            sets.setdefault(_DERMOSCOPIC if kind == _BOTH else kind, []).append(name)
    if len(sets) < 2:
        return
    listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in sorted(sets.items()))
    clinical = all(kind in (_CLINICAL, _BOTH) for kind in kinds.values())
    remedy = "dataset.view=clinical shows the clinical ones of all of them" if clinical else "use sets of one kind"
    record_finding(
        f"the sets show photographs of different kinds ({listed}), by which a network can tell them apart, and with "
        f"them diagnoses; {remedy}",
        level="warning",
    )

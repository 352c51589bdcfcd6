"""Finds runs in a store: by what a user names, by conditions and by tags; and counts reads of a test part."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lesion_exp.errors import ConfigError, first_cases, nearest
from lesion_exp.evaluation.registry import LOSS, WATCHED_METRIC, entry_of, mode_of
from lesion_exp.loss.validation_loss import changes_validation_loss
from lesion_exp.tracking.brief_runs import BriefRun, read_finished, read_tag
from lesion_exp.tracking.embedded_runs import newest_run, runs_with_id
from lesion_exp.tracking.mlflow_values import allowed_name, given_name
from lesion_exp.tracking.run_names import (
    ORIGIN_TAG,
    RECENT,
    SHORTEST_PREFIX,
    KnownRun,
    no_run,
    unknown_alias,
    unknown_run,
)
from lesion_exp.tracking.stored_run import IMPORTED, MODES_TAG, PARENT_TAG, Run, is_in_files_alone, may_be_in_files

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lesion_exp.data.data_fingerprint import DataFingerprint
    from lesion_exp.tracking.store import Store

log = logging.getLogger(__name__)

_NOT_TRAINED: Final = ("preview", "comparison", "ensemble", IMPORTED)
"""Values of the tag `kind` of runs in which nothing was trained."""
READS_TAG: Final = "test_readings"
"""Tag of a run that read its test part: the number of reads of that part so far, over all runs in the store."""
COUNTED: Final = 200
"""Runs whose reads of a test part are counted one by one, the newest; the reads before them are in their tags."""
_COMPARED_TAGS: Final = ("kind", "sweep_id", PARENT_TAG, "leaky", MODES_TAG)
"""Tags that decide which of all finished runs is the best."""
_FINISHED: Final = "attributes.status = 'FINISHED'"
_ID_LENGTH: Final = 32
_OBJECTIVE: Final = f"val/{LOSS}"
_FIRST_PAGE: Final = 4
_LARGEST_PAGE: Final = 400
"""A search reads all parameters, metrics and tags of its runs, so its first pages are small: mostly one run is wanted.

Later ones are larger, since the store sorts all runs again for each page."""


Ranked = TypeVar("Ranked", Run, BriefRun)


def find_run(store: Store, spec: str) -> Run:
    """Returns the run that `spec` names: an id, a unique prefix of one, `latest`, `best:<metric>` or an alias.

    - `latest` is the run that started last. The runs of sweeps themselves, previews, comparisons, ensembles and
      imported predictions are ignored, here and for `best`.
    - `best:<metric>` is the FINISHED run with the best value. For `val/...` it is the value at the best epoch
      (`best/val/...`) if runs have it. A run tagged `leaky` is chosen only if there is no other.
    - An id may also be that of an imported run in the store where it was trained.
    - An alias may be given with its model, as `model@alias`.

    Raises:
        ConfigError: no run, or several runs, have that name.
    """
    if spec == "latest":
        if (run := newest_run(store, _is_trained)) is not None:
            return run
        newest = next((run for run in _runs(store) if _is_trained(run.data.tags)), None)
        if newest is None:
            raise ConfigError(no_run(store.uri))
        return _run(store, newest)
    if spec.startswith("best:"):
        return _best(store, spec.removeprefix("best:"))
    prefix = spec.lower()
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},32}}", prefix):
        alone = runs_with_id(store, prefix)
        if alone is not None and len(alone) == 1:
            return alone[0]
        matches = _by_id(store, prefix) or list(_runs(store, f"attributes.run_id LIKE '{prefix}%'"))
        matches = matches or list(_runs(store, f"tags.{ORIGIN_TAG} LIKE '{prefix}%'"))
        if len(matches) == 1:
            return _run(store, matches[0])
        if matches:
            listed = first_cases(_line(run) for run in matches)
            raise ConfigError(f"expected a prefix of one run; {spec!r} begins {len(matches)}:\n{listed}\nAdd letters.")
    return _run(store, _by_alias(store, spec))


def runs_where(store: Store, condition: str) -> Iterator[Run]:
    """Returns the runs of all experiments that match `condition` (MLflow's filter), the newest first."""
    return (_run(store, run) for run in _runs(store, condition))


def find_tagged(store: Store, tags: Mapping[str, str]) -> Run | None:
    """Returns the newest run with all of `tags`; None if there is none."""
    return next(runs_where(store, " AND ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())), None)


def runs_with_tag(store: Store, name: str, accepts: Callable[[str], bool]) -> Iterator[Run]:
    """Yields the runs, the newest first, that have the tag `name` with a text, not empty, that `accepts` accepts."""
    if store.is_server:
        found = runs_where(store, f"tags.`{name}` != ''")
        yield from (run for run in found if accepts(run.tags[name]))
        return
    for run_id, text in read_tag(store, name).items():
        if accepts(text):
            yield _run(store, store.client.get_run(run_id))


def find_finished(store: Store, job_hash: str) -> Iterator[Run]:
    """Returns the FINISHED runs of a job, the newest first."""
    return runs_where(store, f"{_FINISHED} AND tags.job_hash = '{job_hash}'")


def _runs(store: Store, condition: str = "", order: str = "attributes.start_time DESC") -> Iterator[MlflowRun]:
    """Yields the runs of all experiments that match `condition`; among runs equal in `order`, the newest first."""
    experiments = store.experiment_ids()
    token, size = None, _FIRST_PAGE
    while experiments:
        page = store.client.search_runs(experiments, condition, max_results=size, order_by=[order], page_token=token)
        yield from page
        token, size = page.token, min(_LARGEST_PAGE, 4 * size)
        if not token:
            return


def _by_id(store: Store, run_id: str) -> list[MlflowRun]:
    """The run with a whole id, which the store finds without a search; empty if there is none."""
    from mlflow.exceptions import MlflowException

    if len(run_id) < _ID_LENGTH:
        return []
    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return []
    return [run] if run.info.lifecycle_stage == "active" else []


def _run(store: Store, run: MlflowRun) -> Run:
    info, data = run.info, run.data
    return Run(
        store=store,
        run_id=info.run_id,
        name=info.run_name or "",
        status=info.status,
        experiment_id=info.experiment_id,
        artifact_uri=info.artifact_uri,
        started=(info.start_time or 0) / 1000,  # other programs may leave it out
        params=dict(data.params),
        metrics=dict(data.metrics),
        tags=dict(data.tags),
    )


def _is_trained(tags: Mapping[str, str]) -> bool:
    is_sweep = "sweep_id" in tags and PARENT_TAG not in tags
    return not is_sweep and tags.get("kind") not in _NOT_TRAINED


def _best(store: Store, metric: str) -> Run:
    names = [f"best/{metric}", metric] if metric.startswith("val/") else [metric]
    names = list(dict.fromkeys(spelled for name in names for spelled in (name, allowed_name(name))))
    for name in names:
        known_as = given_name(name)
        found = None if is_in_files_alone(known_as) else _first_honest(_ranked_by_metric(store, name), name)
        if found is None and may_be_in_files(known_as):
            brief = _first_honest(_ranked_by_files(store, name), name)
            found = None if brief is None else _run(store, store.client.get_run(brief.run_id))
        if found is not None:
            if metric == _OBJECTIVE:
                _warn_of_other_losses(store, name, found)
            return found
    recent = _recent(store)
    known = {name for run in recent for name in run.data.metrics}
    known |= next((_run(store, run).results().keys() for run in recent if _is_trained(run.data.tags)), set())
    raise ConfigError(
        f"expected a metric of a FINISHED run after best:, such as best:test/balanced_accuracy; got {metric!r}: "
        f"{nearest(metric, known)}"
    )


def _warn_of_other_losses(store: Store, name: str, best: Run) -> None:
    """Warns if runs with another loss of validation than `best` have the metric `name`, the training objective."""
    losses = {
        key: value
        for key, value in best.params.items()
        if key.startswith("loss.") and "'" not in value and changes_validation_loss(key, best.params)
    }
    for key, value in losses.items():
        condition = f"{_FINISHED} AND metrics.`{name}` > {-1e300:f} AND params.`{key}` != '{value}'"
        if (other := next(_runs(store, condition), None)) is not None:
            log.warning(
                "best:%s is run %s, but run %s was trained with another loss (%s is %s, not %s), so that their values "
                "cannot be compared; run=best:%s compares all runs",
                _OBJECTIVE,
                best.run_id,
                other.info.run_id,
                key,
                other.data.params[key],
                value,
                WATCHED_METRIC,
            )
            return


def _first_honest(ranked: Iterable[Ranked], name: str) -> Ranked | None:
    """Returns the first run that is not leaky; the first one if all are, None if there is none."""
    best = None
    for run in ranked:
        best = best or run
        if run.tags.get("leaky") != "true":
            if run is not best:
                log.warning("Left out run %s, which has a better %s but is leaky.", best.run_id, name)
            return run
    return best


def _ranked_by_metric(store: Store, name: str) -> Iterator[Run]:
    """Yields the FINISHED trained runs with a value of a metric, sorted by the store: the best first, then the newest.

    Tags of all of them are read only for a metric that configs add, whose direction is in these tags.
    """
    if '"' in name or "`" in name:
        return
    condition = f"{_FINISHED} AND metrics.`{name}` > {-1e300:f}"
    tags = (run.tags for run in _finished(store, name, condition) if _is_number(run.metric))
    way = "ASC" if _mode(name, tags) == "min" else "DESC"
    for known in _runs(store, condition, f"metrics.`{name}` {way}"):
        if _is_trained(known.data.tags) and _is_number(known.data.metrics.get(name)):
            yield _run(store, known)


def _ranked_by_files(store: Store, name: str) -> list[BriefRun]:
    """As `_ranked_by_metric`, for a result that runs may have in their files: one file of each run is read."""
    values = [(run.result(store, name), run) for run in _finished(store, name)]
    found = [(value, run) for value, run in values if value is not None and _is_number(value)]
    sign = 1 if _mode(name, (run.tags for _, run in found)) == "min" else -1
    return [run for _, run in sorted(found, key=lambda pair: sign * pair[0])]


def _finished(store: Store, metric: str, condition: str = _FINISHED) -> Iterator[BriefRun]:
    """Yields the FINISHED trained runs, the newest first, with what is compared.

    The tables of a database are read. A server answers searches only, of runs that match `condition`.
    """
    found: Iterable[BriefRun]
    if store.is_server:
        found = (
            BriefRun(run.info.run_id, run.info.artifact_uri, run.data.metrics.get(metric), dict(run.data.tags))
            for run in _runs(store, condition)
        )
    else:
        found = read_finished(store, metric, _COMPARED_TAGS)
    for run in found:
        if _is_trained(run.tags):
            yield run


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _mode(name: str, tags: Iterable[Mapping[str, str]]) -> str:
    """Returns the better direction of a metric; for one that configs add it is read from the `tags` of its runs."""
    known_as = given_name(name)
    if entry_of(known_as) is not None:
        return mode_of(known_as)
    modes = {json.loads(found.get(MODES_TAG, "{}")).get(known_as.rpartition("/")[2], "max") for found in tags}
    if not modes:
        return "max"
    if len(modes) > 1 or None in modes:
        why = "the runs disagree" if len(modes) > 1 else "its class does not define it (higher_is_better)"
        raise ConfigError(
            f"expected after best: a metric whose better direction is known, got {name!r}: "
            f"{why}; name a run by its id instead"
        )
    return str(modes.pop())


def _by_alias(store: Store, spec: str) -> MlflowRun:
    model_name, _, alias = spec.rpartition("@")
    versions: list[tuple[str, Any]] = []
    known: list[str] = []
    token = None
    while True:
        page = store.client.search_registered_models(page_token=token)
        known += [f"{model.name}@{name}" for model in page for name in model.aliases]
        versions += [
            (model.name, model.aliases[alias])
            for model in page
            if alias in model.aliases and model_name in ("", model.name)
        ]
        token = page.token
        if not token:
            break
    if len(versions) > 1:
        listed = first_cases(f"{name}@{alias}" for name, _ in versions)
        raise ConfigError(
            f"expected an alias of one model; {spec!r} is one of {len(versions)}:\n{listed}\nName the model, too: "
            f"run={versions[0][0]}@{alias}"
        )
    if not versions and model_name:
        raise ConfigError(unknown_alias(spec, known))
    if not versions:
        raise ConfigError(_unknown(store, spec))
    name, version = versions[0]
    run_id = store.client.get_model_version(name, version).run_id
    if not run_id:
        raise ConfigError(
            f"expected a registered model that comes from a run, got version {version} of {name}, which was registered "
            f"without one; name the run by its id"
        )
    return store.client.get_run(run_id)


def _unknown(store: Store, spec: str) -> str:
    infos = [run.info for run in _recent(store)]
    return unknown_run(store.uri, spec, [KnownRun(info.run_id, info.status, info.run_name or "") for info in infos])


def _recent(store: Store) -> list[MlflowRun]:
    runs = _runs(store)
    return [run for run, _ in zip(runs, range(RECENT), strict=False)]


def _line(run: MlflowRun) -> str:
    return f"{run.info.run_id}  {run.info.status}  {run.info.run_name}"


def count_test_set_reads(store: Store, data: DataFingerprint, split_hash: str) -> int:
    """Returns the number of reads of the test part of this split by runs of the store; labels may have changed since.

    The newest `COUNTED` runs are counted, and before them the reads that they had counted themselves: reads by several
    runs at the same moment may be counted once there.
    """
    from lesion_exp.data.data_fingerprint import PART_TAG, TOTAL_TAG  # imports what reads images

    experiments = store.experiment_ids()
    by_images = f"tags.`{PART_TAG}images` = '{data.parts['images']}'"
    by_all = f"tags.{TOTAL_TAG} = '{data.before}'"  # runs of earlier versions
    found = set()
    for same in (by_images, by_all) if experiments else ():
        condition = f"{same} AND tags.split_hash = '{split_hash}' AND tags.{READS_TAG} != ''"
        page = store.client.search_runs(experiments, condition, max_results=COUNTED)  # the newest first
        found |= {run.info.run_id for run in page}
        if page.token:
            return len(found) + min(int(run.data.tags[READS_TAG]) for run in page) - 1
    return len(found)

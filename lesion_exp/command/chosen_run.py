"""The run, or the runs, that `run=` names on the command line, and where their data are now."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from lesion_exp.errors import ConfigError, DataError, first_cases
from lesion_exp.option import REQUIRED, Kind, option
from lesion_exp.privacy import without_secrets
from lesion_exp.trained_runs.moved_data import SETS, MovedFiles

if TYPE_CHECKING:
    from lesion_exp.command.arguments import Arguments
    from lesion_exp.tracking.store import Store
    from lesion_exp.tracking.stored_run import Run

M = TypeVar("M", bound=MovedFiles)
_CHECKPOINT: Final = ".ckpt"
_BUNDLE: Final = ".zip"
_SAFETENSORS: Final = ".safetensors"
_SWEEP_ID: Final = re.compile(r"[\w.-]+")
RUN: Final = Kind("RUN", "latest", "a run")
RUN_NAMES: Final = "an id, the beginning of one, latest, best:METRIC, an alias, or the file of a checkpoint or a bundle"
SWEEP: Final = Kind("SWEEP", "latest", "a sweep")
SWEEP_NAMES: Final = "a sweep's id, its run's id, the beginning of one, or latest"


@dataclass(frozen=True)
class ChosenRun:
    """The run on which a verb works."""

    run: str = option(REQUIRED, RUN, RUN_NAMES)


def read_moved(arguments: Arguments, declaration: type[M]) -> M:
    """Returns an object of `declaration` with its options and the folders that `dataset.sets.NAME=DIR` names.

    `dataset.sets.NAME.root=DIR`, as a training takes it for a set with further arguments, is the same.

    Raises:
        ConfigError: as `Arguments.read`, or a folder is named in both ways.
    """
    sets: dict[str, Path] = {}
    for key, text in arguments.take_below(SETS).items():
        whole = f"{SETS}.{key.removeprefix(f'{SETS}.').removesuffix('.root')}"
        if whole in sets:
            raise ConfigError(f"expected {whole}= once, got {whole}={sets[whole]} {key}={text}; leave one out")
        sets[whole] = Path(text).expanduser()
    return arguments.read(declaration, sets=sets)


def chosen_run(store: Store, spec: str) -> Run:
    """Returns the run that `spec` names: as in `find_run`, or by a file.

    A checkpoint names its run by the id that it carries; a bundle is imported unless its run is in the store already.

    Raises:
        ConfigError: `spec` names no run, or several.
        DataError: a file that is neither of these, or that holds more than data.
    """
    from lesion_exp.tracking.find import find_run

    path = Path(spec).expanduser()
    ending = path.suffix.lower()
    if ending == _SAFETENSORS:
        raise ConfigError(
            f"expected a run, a bundle or a checkpoint, got run={spec}; {_checkpoint_of(path)}. safetensors are for "
            f"backbone.weights=FILE and for code of your own"
        )
    if ending == _CHECKPOINT and path.is_file():
        return _run_of_checkpoint(store, path)
    if path.is_file() and (ending == _BUNDLE or _is_bundle(path)):
        return run_of_bundle(store, path)
    return find_run(store, spec)


def chosen_runs(store: Store, spec: str) -> list[Run]:
    """Returns the runs that `spec` names: one as in `chosen_run`, several as `[A,B]`, or all of a sweep by its id.

    Raises:
        ConfigError: as `chosen_run`.
    """
    from lesion_exp.tracking.find import runs_where
    from lesion_exp.tracking.stored_run import PARENT_TAG

    if spec.startswith("[") and spec.endswith("]"):
        return [chosen_run(store, part.strip()) for part in spec[1:-1].split(",")]
    if _SWEEP_ID.fullmatch(spec):
        swept = list(runs_where(store, f"tags.sweep_id = '{spec}'"))
        if swept:
            return sorted(swept, key=lambda run: (PARENT_TAG in run.tags, run.started, run.run_id))
    return [chosen_run(store, spec)]


def _run_of_checkpoint(store: Store, path: Path) -> Run:
    if not zipfile.is_zipfile(path):  # said before torch is imported
        raise DataError(
            f"expected a checkpoint that lesion-exp train saved at {path}, got another file; correct the path"
        )
    from lesion_exp.model.checkpoint_file import run_of_checkpoint
    from lesion_exp.tracking.find import find_run

    run_id = run_of_checkpoint(path)
    try:
        return find_run(store, run_id)
    except ConfigError as error:
        raise ConfigError(
            f"expected the run of {path} in the store {without_secrets(store.uri)}, found no {run_id}; name its store "
            f"with tracking.uri=, or bring the run here as a file: lesion-exp bundle export run={run_id} output=run.zip"
        ) from error


def _checkpoint_of(weights: Path) -> str:
    """The part of a message that says where the checkpoint beside the safetensors file `weights` is."""
    beside = weights.with_suffix(_CHECKPOINT)
    if beside.is_file():
        return f"write run={beside}, the checkpoint beside it"
    return "write run=ID, or run=FILE.ckpt with the run's artifact checkpoints/best.ckpt"


def _is_bundle(path: Path) -> bool:
    """Whether the file, whatever its name, is a bundle: `bundle export` writes any name."""
    if not zipfile.is_zipfile(path):
        return False
    from lesion_exp.verbs.bundle.layout import MANIFEST

    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except zipfile.BadZipFile:
        return False


def run_of_bundle(store: Store, path: Path) -> Run:
    """Returns the run of the bundle at `path`, which is imported unless the store has it already.

    Raises:
        ConfigError: the bundle has several runs.
        DataError: the file is no bundle, or holds more than data.
    """
    import logging

    from lesion_exp.tracking.find import find_run
    from lesion_exp.verbs.bundle.importing import import_bundle

    done = import_bundle(store, path.absolute())
    for made in done:
        logging.getLogger(__name__).info("%s: run %s as %s", made.state, made.origin_id, made.run_id)
    runs = [find_run(store, made.run_id) for made in done]
    if len(runs) != 1:
        listed = first_cases(f"{run.run_id}  {run.status}  {run.name}" for run in runs)
        raise ConfigError(f"expected a bundle of one run, got {len(runs)} in {path}; name one by its id:\n{listed}")
    return runs[0]


def chosen_weights(arguments: Arguments, declaration: type, spec: str) -> dict[str, Path]:
    """Returns the field `checkpoint` of `declaration` if `spec` names a run by a checkpoint file, else no field.

    Raises:
        ConfigError: `checkpoint=` is given as well.
    """
    path = Path(spec).expanduser()
    if path.suffix.lower() != _CHECKPOINT or not path.is_file():
        return {}
    if arguments.gives(declaration, "checkpoint"):
        raise ConfigError(
            f"expected checkpoint= only with the id of a run, got run={spec}, which already names the weights"
        )
    return {"checkpoint": path}

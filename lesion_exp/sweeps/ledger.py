"""The ledger of a sweep: a folder of plain files, which outlives the processes of the sweep.

`sweeps/<id>/sweep.json` describes the sweep, and each folder such as `cells/0000/` contains a cell. Files are written
under a temporary name and renamed. There is no database, so that the folder can be on the file system that the nodes of
a cluster share.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, first_cases
from lesion_exp.next_command import key_of
from lesion_exp.privacy import with_home, without_secrets
from lesion_exp.sweeps.cell import Cell, write_json
from lesion_exp.tracking.run_names import SHORTEST_PREFIX

FOLD: Final = "split.fold"
FORMAT: Final = 1
_TARGETS: Final = re.compile(r"_target_: *(.+)")
"""Where a job file names a class or a function."""


@dataclass(frozen=True)
class SweepFacts:
    """The description of a sweep, which does not change while it runs; the content of `sweep.json`."""

    sweep_id: str
    created: float
    """Seconds since 1970."""
    overrides: tuple[str, ...]
    """All overrides of the command, as they were written."""
    fixed: tuple[str, ...]
    """The overrides that are the same for every cell."""
    keys: tuple[str, ...]
    """The keys in which cells differ."""
    launcher: Mapping[str, Any]
    search: Mapping[str, Any]
    store: Mapping[str, Any]
    """The nodes `tracking` and `paths` of its cells."""
    space: tuple[Mapping[str, Any], ...] = ()
    """The dimensions of an adaptive search; empty for other searches, whose cells are all known in advance."""
    force: bool = False
    runs: Mapping[str, str] = field(default_factory=dict)
    """The ids of runs by the names that overrides or config files give them; cells that are added later use them."""
    folder: str | None = None
    """The current folder of the command, at which relative paths start also in cells that are added later."""
    data_folders: Mapping[str, str] = field(default_factory=dict)
    """The folders of data sets that the machine's settings named, by the names of the sets; later cells use them."""
    skip_bad_images: bool = False
    """Whether images that cannot be used are left out (`dataset.on_bad_image=skip`)."""
    parent_run_id: str | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class Sweep:
    """A sweep, identified by its folder."""

    folder: Path
    facts: SweepFacts

    @property
    def cancel_file(self) -> Path:
        """The file that makes the process which drives the sweep stop its cells and end."""
        return self.folder / "cancel"

    @property
    def exhausted_file(self) -> Path:
        """The file that marks a search which proposes only cells that are known to fail, so that no cell follows."""
        return self.folder / "exhausted"

    @property
    def project(self) -> Project:
        """The project whose folders and store its cells use."""
        return Project.from_config(self.facts.store)

    @property
    def lock(self) -> Path:
        """The lock that the process which drives the sweep holds."""
        return self.folder / "lock"

    def cells(self) -> list[Cell]:
        """All cells, in the order of their numbers."""
        found = [Cell(folder) for folder in (self.folder / "cells").glob("[0-9]*")]
        return sorted(found, key=lambda cell: cell.number)

    def cell(self, number: int) -> Cell:
        """The cell with this number, which need not exist."""
        return Cell(self.folder / "cells" / f"{number:04d}")

    def conf_folders(self) -> list[Path]:
        """Copies of the config folders from the start of the sweep, for cells that are added later."""
        return sorted((self.folder / "conf").glob("[0-9]*"))

    def add(self, number: int, job: Job, overrides: Sequence[str], trial: int | None = None) -> Cell:
        """Adds a cell, which appears in the ledger complete or not at all.

        `number` is the number of cells before.
        """
        cell = self.cell(number)
        waiting = Cell(cell.folder.with_name(f".{cell.folder.name}"))
        shutil.rmtree(waiting.folder, ignore_errors=True)
        waiting.create(job, tuple(overrides), trial)
        waiting.folder.rename(cell.folder)
        return cell

    def conclusion(self) -> str | None:
        """Returns the text that `note_conclusion` wrote last; None before that."""
        path = self.folder / "concluded"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def note_conclusion(self, text: str) -> None:
        """Records the digest of the cells' states with which the sweep's run was finished."""
        waiting = self.folder / ".concluded"
        waiting.write_text(text, encoding="utf-8")
        waiting.replace(self.folder / "concluded")

    def with_parent(self, run_id: str) -> Sweep:
        """Records the id of the sweep's MLflow run, and returns the updated sweep."""
        facts = replace(self.facts, parent_run_id=run_id)
        write_json(self.folder / "sweep.json", asdict(facts))
        return replace(self, facts=facts)


def jobs_by_targets(cells: Iterable[Cell]) -> Iterator[Job]:
    """Yields the job of one of `cells` for each combination of classes and functions that their jobs name.

    The text of the other files is searched, which takes much less time than reading them.
    """
    found = set()
    for cell in cells:
        targets = frozenset(_TARGETS.findall(cell.job_file.read_text(encoding="utf-8")))
        if targets not in found:
            found.add(targets)
            yield cell.job()


def new_sweep_id() -> str:
    """Returns a unique id of date, time and four random digits, so that ids are sorted by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def create_sweep(
    folder: Path, facts: SweepFacts, cells: Sequence[tuple[Job, Sequence[str]]], conf_folders: Sequence[Path]
) -> Sweep:
    """Creates a sweep with `cells` in `folder`/`facts.sweep_id`, complete or not at all.

    `conf_folders` are copied if cells are added later, so that edits of the configs do not affect them.
    """
    hidden = folder / f".{facts.sweep_id}"
    sweep = Sweep(hidden, facts)
    (hidden / "cells").mkdir(parents=True)
    for number, (job, overrides) in enumerate(cells):
        sweep.cell(number).create(job, tuple(overrides))
    for number, source in enumerate(conf_folders if facts.space else ()):
        shutil.copytree(source, hidden / "conf" / str(number), copy_function=_copy_of_config)
    write_json(hidden / "sweep.json", asdict(facts))
    hidden.rename(folder / facts.sweep_id)
    return replace(sweep, folder=folder / facts.sweep_id)


def _copy_of_config(source: str, target: str) -> None:
    """Copies a file; secrets are removed from a YAML file."""
    shutil.copy2(source, target)
    if target.endswith((".yaml", ".yml")):
        Path(target).write_text(without_secrets(Path(source).read_text(encoding="utf-8")), encoding="utf-8")


def read_sweep(folder: Path) -> Sweep:
    """Reads the sweep in `folder`.

    Raises:
        ConfigError: its `sweep.json` cannot be read, or has another format.
    """
    try:
        body = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"expected the ledger of a sweep in {folder}, but sweep.json cannot be read: {error}"
        ) from error
    if body.get("format") != FORMAT:
        raise ConfigError(
            f"expected a ledger of format {FORMAT}, got {body.get('format')} in {folder}; use the version of "
            f"lesion_exp that started the sweep"
        )
    lists = {key: tuple(body[key]) for key in ("overrides", "fixed", "keys", "space")}
    paths = {name: str(Path(path).expanduser()) for name, path in body["store"]["paths"].items()}
    places: dict[str, Any] = {key: with_home(lists[key]) for key in ("fixed", "space")}  # Hydra does not read ~
    places |= {key: with_home(body[key]) for key in ("folder", "data_folders") if key in body}
    store = {**body["store"], "paths": paths}
    nodes = {key: _with_current_target(body[key]) for key in ("launcher", "search")}
    return Sweep(folder, SweepFacts(**{**body, **lists, **nodes, **places, "store": store}))


def _with_current_target(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node of a launcher or a search; the target of an earlier version is replaced by its new name."""
    return {key: re.sub(r"^lesion_exp\.sweep\.", "lesion_exp.sweeps.", value) if key == "_target_" else value
            for key, value in node.items()}  # fmt: skip


def sweeps_in(folder: Path) -> list[Sweep]:
    """All sweeps in `folder`, the oldest first."""
    return [read_sweep(path) for path in _folders_in(folder)]


def newest_first(folder: Path) -> Iterator[Sweep]:
    """Yields the sweeps in `folder`, the newest first; each is read when it is asked for."""
    return (read_sweep(path) for path in reversed(_folders_in(folder)))


def _folders_in(folder: Path) -> list[Path]:
    return [path.parent for path in sorted(folder.glob("[0-9]*/sweep.json"))]


def find_sweep(folder: Path, spec: str) -> Sweep:
    """Finds the sweep in `folder` that `spec` names: its id, the id of its MLflow run, a unique prefix, or `latest`.

    For `latest` no other sweep is read.

    Raises:
        ConfigError: no sweep, or several sweeps, have that name.
    """
    if spec == "latest" and (newest := next(newest_first(folder), None)) is not None:
        return newest
    found = sweeps_in(folder)
    if not found:
        raise ConfigError(
            f"expected a sweep in {folder}, but there is none; sweeps lie in the folder of their project, so give the "
            f"command there, or with paths.root=DIR; lesion-exp train -m seed=1,2 starts a sweep"
        )
    matches = [sweep for sweep in found if _is_named(sweep, spec)]
    if len(matches) == 1:
        return matches[0]
    listed = first_cases(_line(sweep) for sweep in (matches or found[::-1]))
    if matches:
        raise ConfigError(
            f"expected the beginning of the id of one sweep, but {spec!r} begins {len(matches)} ids:\n{listed}\n"
            f"give more letters"
        )
    raise ConfigError(
        f"expected the id of a sweep or of its run, the beginning of one (at least {SHORTEST_PREFIX} letters) or "
        f"latest, got {spec!r}; the sweeps in {folder}:\n{listed}"
    )


def _is_named(sweep: Sweep, spec: str) -> bool:
    return names_sweep(spec, sweep.facts.sweep_id, sweep.facts.parent_run_id or "")


def names_sweep(spec: str, sweep_id: str, run_id: str) -> bool:
    """Returns whether `spec` is the id of a sweep or of its run, or the beginning of one that is long enough."""
    return len(spec) >= SHORTEST_PREFIX and (sweep_id.startswith(spec) or run_id.startswith(spec.lower()))


def _line(sweep: Sweep) -> str:
    words = [word for word in sweep.facts.overrides if key_of(word) in sweep.facts.keys]
    return f"{sweep.facts.sweep_id}  {' '.join(words)}"

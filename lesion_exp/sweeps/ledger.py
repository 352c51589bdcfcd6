"""The ledger of a sweep: a folder of plain files that survives whatever happens to the processes.

`sweeps/<id>/sweep.json` says what was asked for, `cells/0000/` holds a cell each. Every file is written whole and
renamed, there is no database: the folder may lie on the file system that a cluster's nodes share.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, first_cases
from lesion_exp.privacy import without_secrets
from lesion_exp.sweeps.cell import Cell, write_json

FOLD: Final = "split.fold"
FORMAT: Final = 1
_SHORTEST_PREFIX: Final = 4


@dataclass(frozen=True)
class SweepFacts:
    """What does not change while a sweep runs; what `sweep.json` holds."""

    sweep_id: str
    created: float
    """Seconds since 1970."""
    overrides: tuple[str, ...]
    """The command's, as they were written."""
    fixed: tuple[str, ...]
    """Those of them that are the same for every cell."""
    keys: tuple[str, ...]
    """The keys in which cells differ."""
    launcher: Mapping[str, Any]
    search: Mapping[str, Any]
    store: Mapping[str, Any]
    """The nodes `tracking` and `paths` of its cells."""
    space: tuple[Mapping[str, Any], ...] = ()
    """The dimensions of a search that asks for one cell after another; empty for others, whose cells are all there."""
    force: bool = False
    parent_run_id: str | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class Sweep:
    """A sweep, by its folder."""

    folder: Path
    facts: SweepFacts

    @property
    def cancel_file(self) -> Path:
        """Where it exists, the process that drives the sweep stops its cells and ends."""
        return self.folder / "cancel"

    @property
    def exhausted_file(self) -> Path:
        """Where it exists, the search proposes no cell that is not known to fail: there will be no further one."""
        return self.folder / "exhausted"

    @property
    def project(self) -> Project:
        """The project whose folders and store its cells use."""
        return Project.from_config(self.facts.store)

    @property
    def lock(self) -> Path:
        """Held by the process that drives the sweep."""
        return self.folder / "lock"

    def cells(self) -> list[Cell]:
        """All cells, in order."""
        return [Cell(folder) for folder in sorted((self.folder / "cells").glob("[0-9]*"))]

    def conf_folders(self) -> list[Path]:
        """Copies of the folders of configs as they were when the sweep began, for cells that are made later."""
        return sorted((self.folder / "conf").glob("[0-9]*"))

    def add(self, job: Job, overrides: Sequence[str], trial: int | None = None) -> Cell:
        """A further cell, complete on the disk when this returns."""
        number = len(self.cells())
        cell = Cell(self.folder / "cells" / f"{number:04d}")
        waiting = Cell(self.folder / "cells" / f".{number:04d}")
        shutil.rmtree(waiting.folder, ignore_errors=True)
        waiting.create(job, tuple(overrides), trial)
        waiting.folder.rename(cell.folder)
        return cell

    def conclusion(self) -> str | None:
        """What `note_conclusion` wrote down last; None before that."""
        path = self.folder / "concluded"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def note_conclusion(self, text: str) -> None:
        """Writes down of which state of its cells the sweep's run tells."""
        waiting = self.folder / ".concluded"
        waiting.write_text(text, encoding="utf-8")
        waiting.replace(self.folder / "concluded")

    def with_parent(self, run_id: str) -> Sweep:
        """The sweep with its MLflow run, written down."""
        facts = replace(self.facts, parent_run_id=run_id)
        write_json(self.folder / "sweep.json", asdict(facts))
        return replace(self, facts=facts)


def new_sweep_id() -> str:
    """Day, time and four random digits: sorted by time, and no two alike."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def create_sweep(
    folder: Path, facts: SweepFacts, cells: Sequence[tuple[Job, Sequence[str]]], conf_folders: Sequence[Path]
) -> Sweep:
    """A new sweep in `folder`/`facts.sweep_id` with `cells`; it appears there complete, or not at all.

    `conf_folders` are copied where cells are to be made later, so that edits of them change nothing.
    """
    hidden = folder / f".{facts.sweep_id}"
    sweep = Sweep(hidden, facts)
    (hidden / "cells").mkdir(parents=True)
    for number, (job, overrides) in enumerate(cells):
        Cell(hidden / "cells" / f"{number:04d}").create(job, tuple(overrides))
    for number, source in enumerate(conf_folders if facts.space else ()):
        shutil.copytree(source, hidden / "conf" / str(number), copy_function=_copy_of_config)
    write_json(hidden / "sweep.json", asdict(facts))
    hidden.rename(folder / facts.sweep_id)
    return replace(sweep, folder=folder / facts.sweep_id)


def _copy_of_config(source: str, target: str) -> None:
    """Copies a file; a YAML without the secrets that it may hold."""
    shutil.copy2(source, target)
    if target.endswith((".yaml", ".yml")):
        Path(target).write_text(without_secrets(Path(source).read_text(encoding="utf-8")), encoding="utf-8")


def read_sweep(folder: Path) -> Sweep:
    """The sweep in `folder`.

    Raises:
        ConfigError: its `sweep.json` cannot be read, or is of another format.
    """
    try:
        body = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"expected the ledger of a sweep in {folder}, but sweep.json cannot be read: {error}"
        ) from error
    if body.get("format") != FORMAT:
        raise ConfigError(f"expected a ledger of format {FORMAT}, got {body.get('format')} in {folder}")
    lists = {key: tuple(body[key]) for key in ("overrides", "fixed", "keys", "space")}
    paths = {name: str(Path(path).expanduser()) for name, path in body["store"]["paths"].items()}
    nodes = {key: _at_its_place(body[key]) for key in ("launcher", "search")}
    return Sweep(folder, SweepFacts(**{**body, **lists, **nodes, "store": {**body["store"], "paths": paths}}))


def _at_its_place(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node of a launcher or a search, whose target lay in another package in earlier versions."""
    return {key: re.sub(r"^lesion_exp\.sweep\.", "lesion_exp.sweeps.", value) if key == "_target_" else value
            for key, value in node.items()}  # fmt: skip


def sweeps_in(folder: Path) -> list[Sweep]:
    """All sweeps in `folder`, the newest last."""
    return [read_sweep(path.parent) for path in sorted(folder.glob("[0-9]*/sweep.json"))]


def find_sweep(folder: Path, spec: str) -> Sweep:
    """The sweep in `folder` that `spec` names: its id, its parent's run id, a unique prefix of either, or `latest`.

    Raises:
        ConfigError: none, or several, are named so.
    """
    found = sweeps_in(folder)
    if not found:
        raise ConfigError(
            f"expected a sweep in {folder}, but there is none yet; lesion-exp train -m seed=1,2 makes one"
        )
    if spec == "latest":
        return found[-1]
    matches = [sweep for sweep in found if _is_named(sweep, spec)]
    if len(matches) == 1:
        return matches[0]
    listed = first_cases(_line(sweep) for sweep in (matches or found[::-1]))
    if matches:
        raise ConfigError(
            f"expected the beginning of one sweep; {spec!r} begins {len(matches)}:\n{listed}\nadd letters"
        )
    raise ConfigError(
        f"expected a sweep's id, its parent's run id, the beginning of one (at least {_SHORTEST_PREFIX} letters) or "
        f"latest, got {spec!r}; the sweeps in {folder}:\n{listed}"
    )


def _is_named(sweep: Sweep, spec: str) -> bool:
    names = [name for name in (sweep.facts.sweep_id, sweep.facts.parent_run_id) if name]
    return len(spec) >= _SHORTEST_PREFIX and any(name.startswith(spec) for name in names)


def _line(sweep: Sweep) -> str:
    words = [word for word in sweep.facts.overrides if word.partition("=")[0].lstrip("+") in sweep.facts.keys]
    return f"{sweep.facts.sweep_id}  {' '.join(words)}"

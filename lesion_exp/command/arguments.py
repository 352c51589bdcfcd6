"""The command line, taken apart, and what a verb makes of it: a job, a store, keys of its own."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from lesion_exp.config.project import Project
from lesion_exp.config.shipped_conf import conf_dir, documented_keys, find_root
from lesion_exp.errors import ConfigError, did_you_mean
from lesion_exp.option import file, option, options_of

if TYPE_CHECKING:  # Hydra, yaml and MLflow are imported when a verb needs them, not for --help
    from lesion_exp.config.compose import Composed
    from lesion_exp.config.freeze import Job

D = TypeVar("D")
_OWN_FOLDERS: Final = ("jobs", "sweeps", "mlruns")
"""Folders of a project in which its own job files lie."""
STORE_NODES: Final = ("tracking", "paths")
"""Nodes of the config that say where the store of runs is."""
_STORE_KEYS: Final = ("tracking.uri", "paths.root")


@dataclass
class Arguments:
    """The command line, taken apart."""

    overrides: list[str] = field(default_factory=list)
    own_keys: tuple[str, ...] = ()
    """Keys that the verb names in its help, for messages about a wrong key."""
    names: list[str] = field(default_factory=list)
    """What stands without `=` after a verb that takes names."""
    config_dirs: list[Path] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    """Flags of this verb that were given, such as `--json`."""
    multirun: bool = False
    """Whether -m was given."""
    show_tree: bool = True
    full_tree: bool = False
    """Whether the tree at the start shows also what is as in the defaults."""
    print_config: bool = False
    bases: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """What was composed from files already."""
    from_python: bool = False
    """Whether Python code asks, and no command line: signals stay as they are, and no config is shown."""

    @property
    def json(self) -> bool:
        """Whether one JSON object is wanted on standard output."""
        return "--json" in self.flags

    def read(self, declaration: type[D], **others: Any) -> D:
        """The options that `declaration` declares, as its object; they no longer stand among the overrides.

        This is the one place where keys of a verb are parsed. `others` are values that the command line does not give.

        Raises:
            ConfigError: an option that must be given is not, or one is given twice, without a value or with one that
                it does not take.
        """
        given = dict(others)
        for one in options_of(declaration):
            if one.field in others:
                continue
            text = self._take(one.key)
            if text is not None:
                given[one.field] = one.read(text)
            elif one.is_required:
                raise ConfigError(f"expected {one.key}=, got {self._near(one.key)}; for example {one.example}")
        return declaration(**given)

    def gives(self, declaration: type, field: str) -> bool:
        """Whether the command line gives the option that is the field `field` of `declaration`."""
        return any(one.field == field and one.key in self.given_keys() for one in options_of(declaration))

    def given_keys(self) -> set[str]:
        """The keys that the overrides give a value."""
        return {_key(text) for text in self.overrides}

    def keep(self, key: str, value: object) -> None:
        """Adds an override of the config."""
        self.overrides.append(f"{key}={value}")

    def take_below(self, node: str) -> dict[str, str]:
        """Each key below `node` with the text of its value, for keys of which there are many such as `launcher.KEY`.

        They no longer stand among the overrides.

        Raises:
            ConfigError: a key is given twice, or without a value.
        """
        keys = [text.partition("=")[0] for text in self.overrides if text.startswith(f"{node}.")]
        return {key: cast(str, self._take(key)) for key in dict.fromkeys(keys)}

    def _take(self, key: str) -> str | None:
        found = [text for text in self.overrides if text.partition("=")[0] == key]
        if len(found) > 1:
            raise ConfigError(f"expected {key}= once, got {' '.join(found)}")
        if not found:
            return None
        self.overrides.remove(found[0])
        value = found[0].partition("=")[2]
        if not value:
            raise ConfigError(f"expected a value after {key}=, got none")
        return value

    def _near(self, key: str) -> str:
        """The override that may have been meant as `key`, or `none`."""
        unknown = (text for text in self.overrides if _key(text) not in self.own_keys)
        return next((text for text in unknown if did_you_mean(_key(text), [key])), "none")

    def positional(self) -> list[str]:
        """The arguments that are no overrides, which then no longer stand among them."""
        found = [text for text in self.overrides if "=" not in text and not text.startswith("~")]
        self.overrides = [text for text in self.overrides if text not in found]
        return found

    def nearest_own(self, text: str) -> str:
        """The end of a message about the override `text`, which the verb does not read: which of its keys come near.

        A key of the config is no typing error, so nothing is said of it.
        """
        known = _key(text) in documented_keys(conf_dir())
        return "" if known else did_you_mean(_key(text), [*self.own_keys, *_STORE_KEYS])


@dataclass(frozen=True)
class JobFile:
    """The option of verbs that compose a job, or take one that is frozen."""

    job: Path | None = option(
        None, file("job.yaml"), "a frozen job file, which takes the place of all groups and keys of the config"
    )


def compose_job(arguments: Arguments, shown: Container[str] | None = None) -> Job | None:
    """The job that the arguments name; None after `--cfg job`, when it was printed.

    The user sees the groups in `shown`, by default all.
    """
    prepare_process(arguments)
    frozen = arguments.read(JobFile).job
    from lesion_exp.config.freeze import freeze, read_job

    if frozen is not None:
        if arguments.overrides:
            raise ConfigError(
                "expected job=FILE alone: a frozen job takes no further overrides; compose a new one instead"
            )
        job = _at_home(read_job(frozen), frozen)
    else:
        job = freeze(compose_config(arguments))
    if arguments.print_config:
        import yaml

        print(yaml.safe_dump(job.config, sort_keys=False), end="")
        return None
    if arguments.show_tree and job.config["print_config"] and not arguments.json and not arguments.from_python:
        from lesion_exp.command.config_tree import show_config

        show_config(job.config, job.overrides, shown, compared_defaults(arguments))
    return job


def compared_defaults(arguments: Arguments) -> dict[str, Any] | None:
    """The config without any override, with which the tree at the start compares; None where it is to show all."""
    if arguments.full_tree:
        return None
    return compose_config(replace(arguments, overrides=[])).config


def _at_home(job: Job, file: Path) -> Job:
    """`job`, with the folders of the current project if its file comes from another one.

    A job says where its runs, caches and sweeps are written. That is heeded where it is the current project, or where
    the file lies among the project's own, and never outside the project's folder.
    """
    import logging

    from lesion_exp.config.compose import compose
    from lesion_exp.config.relocate import relocated

    paths = {name: Path(path).resolve() for name, path in job.config["paths"].items()}
    root, here = paths["root"], find_root(Path.cwd())
    among_its_own = any(file.resolve().is_relative_to(root / name) for name in _OWN_FOLDERS)
    if (root == here or among_its_own) and all(path.is_relative_to(root) for path in paths.values()):
        return job
    logging.getLogger(__name__).warning("the job was frozen for %s: its run is kept in %s instead", root, here)
    return relocated(job, replace(compose([], root=here).project, store_uri=None), {})


def compose_config(arguments: Arguments) -> Composed:
    """The resolved config that the arguments name."""
    from lesion_exp.config.compose import compose

    root = find_root(Path.cwd())
    return compose(arguments.overrides, config_dirs=arguments.config_dirs, root=root, bases=arguments.bases)


def open_project(arguments: Arguments) -> Project:
    """The project, its store opened, for a verb that needs no job; overrides such as `tracking.uri=` count.

    Runs whose process died are marked in it.

    Raises:
        ConfigError: overrides that such a verb does not read, or a store that cannot be used.
    """

    prepare_process(arguments)
    check_store_keys(arguments)
    if arguments.print_config:
        raise ConfigError("expected no --cfg job: this verb composes no job; train, prepare and preview do")
    return compose_config(arguments).project.opened()


def check_store_keys(arguments: Arguments) -> None:
    """Checks that the overrides that are left only say where the store is, for a verb that reads nothing else.

    Raises:
        ConfigError: another override.
    """
    for text in arguments.overrides:
        if _key(text).partition(".")[0].partition("/")[0] not in STORE_NODES:
            raise ConfigError(
                f"expected a key that this verb reads, got {text}{arguments.nearest_own(text)}\n"
                f"it composes no run: beside its own keys (--help lists them) only those below "
                f"{' and '.join(STORE_NODES)} count"
            )


def _key(text: str) -> str:
    """The key of an override."""
    return text.lstrip("+~").partition("=")[0]


def prepare_process(arguments: Arguments) -> None:
    """What every verb does first: messages, trusted packages, and where it is a command of its own, signals and rank
    variables that were left behind.
    """
    from lesion_exp.config.registered import TRUST_VARIABLE
    from lesion_exp.process.distributed_environment import ignore_leftovers
    from lesion_exp.process.messages import show_messages
    from lesion_exp.process.signals import end_on_sigterm

    show_messages()
    if not arguments.from_python:
        end_on_sigterm()
        ignore_leftovers()
    if arguments.trusted:
        os.environ[TRUST_VARIABLE] = ",".join([*filter(None, [os.environ.get(TRUST_VARIABLE)]), *arguments.trusted])

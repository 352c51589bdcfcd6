"""The parsed command line, and what verbs read from it: their options, a job, the project."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from lesion_exp.command.chosen_run import RUN, SWEEP
from lesion_exp.config.command_words import STORE_KEYS
from lesion_exp.config.project import Project
from lesion_exp.config.shipped_conf import conf_dir, documented_keys, find_root
from lesion_exp.errors import ConfigError, did_you_mean
from lesion_exp.next_command import key_of, repeat_in_commands
from lesion_exp.option import file, option, options_of

if TYPE_CHECKING:  # Hydra, yaml and MLflow are imported when a verb needs them, not for --help
    from lesion_exp.config.compose import Composed
    from lesion_exp.config.freeze import Job

D = TypeVar("D")
_WITH_EXPONENT: Final = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_OWN_FOLDERS: Final = ("jobs", "sweeps", "mlruns")
"""Folders of a project in which its own job files lie."""
_MAY_BE_BARE: Final = ("run", "sweep")
"""Keys that may be left out before the name of a run or a sweep."""
STORE_NODES: Final = ("tracking", "paths")
"""Nodes of the config that say where the store of runs is."""


@dataclass
class Arguments:
    """A parsed command line."""

    overrides: list[str] = field(default_factory=list)
    """`KEY=VALUE` and `GROUP=OPTION`; what a verb reads is removed from them."""
    own_keys: tuple[str, ...] = ()
    """Keys that the help of the verb shows, for messages about a wrong key."""
    names: list[str] = field(default_factory=list)
    """Arguments without `=` of a verb that takes names."""
    config_dirs: list[Path] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    """Flags of the verb that were given, such as `--json`."""
    multirun: bool = False
    """Whether -m was given."""
    show_tree: bool = True
    full_tree: bool = False
    """Whether the config that is shown at the start also has the values that equal the defaults."""
    print_config: bool = False
    bases: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """Configs that were composed from files already; see `compose`."""
    named_runs: list[str] = field(default_factory=list)
    """The runs that the options of the verb name, as they were typed."""
    named_sweeps: list[str] = field(default_factory=list)
    """The sweeps of which the verb reads the run in the store, as they were typed."""
    joins_group: bool = False
    """Whether the verb may train in the one process that torchrun started, so that its variables are kept."""
    from_python: bool = False
    """Whether Python code calls the verb: signal handlers stay as they are, and no config is shown."""

    @property
    def json(self) -> bool:
        """Whether standard output is to be one JSON object."""
        return "--json" in self.flags

    def read(self, declaration: type[D], **others: Any) -> D:
        """Returns an object of the dataclass `declaration` with the options that it declares.

        They are removed from the overrides. This is the only place where keys of a verb are parsed. `others` are fields
        that are not read from the command line. `run=` or `sweep=` may be left out before the only name.

        Raises:
            ConfigError: a required option is missing, or an option is given twice, without a value or with a value
                that it does not accept.
        """
        given = dict(others)
        for one in options_of(declaration):
            if one.field in others:
                continue
            text = self._take(one.key)
            if text is None and one.key in _MAY_BE_BARE and one.kind in (RUN, SWEEP):
                text = self._take_word()
            if text is not None:
                given[one.field] = one.read(text)
                if one.kind is RUN:
                    self.named_runs.append(text)
            elif one.is_required:
                raise ConfigError(f"expected {one.key}=, got {self.near(one.key)}; for example {one.example}")
        return declaration(**given)

    def gives(self, declaration: type, field: str) -> bool:
        """Returns whether the command line gives a value for the field `field` of `declaration`."""
        return any(one.field == field and one.key in self.given_keys() for one in options_of(declaration))

    def given_keys(self) -> set[str]:
        """Returns the keys of the overrides."""
        return {key_of(text) for text in self.overrides}

    def keep(self, key: str, value: object) -> None:
        """Adds an override of the config."""
        self.overrides.append(f"{key}={value}")

    def take_below(self, node: str) -> dict[str, str]:
        """Returns the keys below `node`, such as `launcher.KEY`, with the texts of their values, without pluses.

        They are removed from the overrides.

        Raises:
            ConfigError: a key is given twice, or without a value.
        """
        names = [text.partition("=")[0].lstrip("+") for text in self.overrides]
        keys = dict.fromkeys(name for name in names if name.startswith(f"{node}."))
        return {key: cast(str, self._take(key, f"+{key}", f"++{key}")) for key in keys}

    def _take(self, *spellings: str) -> str | None:
        key = spellings[0]
        found = [text for text in self.overrides if text.partition("=")[0] in spellings]
        if len(found) > 1:
            raise ConfigError(f"expected {key}= once, got {' '.join(found)}")
        if not found:
            return None
        self.overrides.remove(found[0])
        value = found[0].partition("=")[2]
        if not value:
            raise ConfigError(f"expected a value after {key}=, got none")
        return value

    def _take_word(self) -> str | None:
        """Returns the one word that is no override, as `latest` in `report latest`; None if there are none or more."""
        words = [text for text in self.overrides if is_word(text)]
        if len(words) != 1:
            return None
        self.overrides.remove(words[0])
        return words[0]

    def take_runs(self) -> list[str]:
        """Returns the runs that are named as `run=ID`, `run=[ID,ID]` or several of these; they are removed."""
        given = [text for text in self.overrides if key_of(text) == "run"]
        self.overrides = [text for text in self.overrides if text not in given]
        names = [name.strip() for text in given for name in text.partition("=")[2].strip("[]").split(",")]
        return [name for name in names if name]

    def near(self, key: str) -> str:
        """Returns the override that may have been meant as `key`, or `none`."""
        unknown = (text for text in self.overrides if key_of(text) not in self.own_keys)
        return next((text for text in unknown if did_you_mean(key_of(text), [key])), "none")

    def places(self) -> list[str]:
        """Returns the words that a later command needs, too: folders, store, configs and trusted packages."""
        keys = [text for text in self.overrides if _is_place(key_of(text))]
        folders = [f"--config-dir={folder}" for folder in self.config_dirs]
        return [*keys, *folders, *(f"--trust={package}" for package in self.trusted)]

    def positional(self) -> list[str]:
        """Returns the arguments that are no overrides; they are removed from them."""
        found = [text for text in self.overrides if is_word(text)]
        self.overrides = [text for text in self.overrides if text not in found]
        return found

    def nearest_own(self, text: str) -> str:
        """Returns the end of a message about the override `text`, which the verb does not read: similar keys.

        It is empty for a key of the config, which is no typing error.
        """
        known = key_of(text) in documented_keys(conf_dir())
        return "" if known else did_you_mean(key_of(text), [*self.own_keys, *STORE_KEYS])


@dataclass(frozen=True)
class JobFile:
    """The option of verbs that compose a job or read a frozen one."""

    job: Path | None = option(None, file("job.yaml"), "a frozen job file, instead of any groups and keys of the config")


def is_word(argument: str) -> bool:
    """Returns whether an argument of a command, which is no flag, is no override either."""
    return "=" not in argument and not argument.startswith("~")


def compose_job(arguments: Arguments, shown: Container[str] | None = None) -> Job | None:
    """Returns the job that the arguments describe; None after `--cfg job`, which prints its config.

    The config is shown on standard error: the groups in `shown`, by default all.
    """
    prepare_process(arguments)
    frozen = arguments.read(JobFile).job
    from lesion_exp.config.freeze import freeze, read_job
    from lesion_exp.config.places import check_places
    from lesion_exp.config.registered import check_registered

    if frozen is not None:
        if arguments.overrides:
            raise ConfigError(
                f"expected job=FILE alone, since a frozen job takes no overrides, got {arguments.overrides[0]}; "
                f"leave it out, or compose a new job"
            )
        job = _at_home(read_job(frozen), frozen)
    else:
        job = freeze(compose_config(arguments))
    if arguments.print_config:
        print_config(job.config)
        return None
    check_registered(job.config)
    check_places(job.config)
    if arguments.show_tree and job.config["print_config"] and not arguments.json and not arguments.from_python:
        from lesion_exp.command.config_tree import show_config

        show_config(job.config, job.overrides, shown, compared_defaults(arguments))
    _check_named_runs(arguments, job.project)
    return job


def _check_named_runs(arguments: Arguments, project: Project) -> None:
    """Checks the runs and sweeps that the command names where that takes no server and no MLflow: before anything is
    imported."""
    from lesion_exp.tracking.run_names import check_names, check_sweep
    from lesion_exp.tracking.store import embedded_database

    names_any = arguments.named_runs or arguments.named_sweeps
    database = embedded_database(project.store_uri, project.root) if names_any else None
    if database is None:
        return
    if arguments.named_runs:
        check_names(database, arguments.named_runs)
    for name in arguments.named_sweeps:
        check_sweep(database, name)


def print_config(config: Mapping[str, Any]) -> None:
    """Prints a config as YAML on standard output, for `--cfg job`."""
    import yaml

    print(yaml.safe_dump(dict(config), sort_keys=False), end="")


def compared_defaults(arguments: Arguments) -> dict[str, Any] | None:
    """Returns the config without overrides, with which the shown config is compared; None after `--full-tree`."""
    if arguments.full_tree:
        return None
    return compose_config(replace(arguments, overrides=[])).config


def _at_home(job: Job, file: Path) -> Job:
    """`job`, with the folders of the current project if its file comes from another project.

    A job names the folders of its runs, caches and sweeps. They are kept if they are those of the current project, or
    if `file` lies in one of these folders, but only if all are below the root of their project.
    """
    import logging

    from lesion_exp.config.compose import compose
    from lesion_exp.config.freeze import relocated

    paths = {name: Path(path).resolve() for name, path in job.config["paths"].items()}
    root, here = paths["root"], find_root(Path.cwd())
    among_its_own = any(file.resolve().is_relative_to(root / name) for name in _OWN_FOLDERS)
    if (root == here or among_its_own) and all(path.is_relative_to(root) for path in paths.values()):
        return job
    logging.getLogger(__name__).warning(
        "the job was frozen in the project %s; its run is stored in the current project, %s", root, here
    )
    return relocated(job, replace(compose([], root=here).project, store_uri=None), {})


def compose_config(arguments: Arguments) -> Composed:
    """Returns the resolved config that the arguments describe."""
    from lesion_exp.config.compose import compose
    from lesion_exp.config.places import check_given_weights

    if not arguments.print_config:
        check_given_weights(arguments.overrides)
    root = find_root(Path.cwd())
    return compose(arguments.overrides, config_dirs=arguments.config_dirs, root=root, bases=arguments.bases)


def open_project(arguments: Arguments) -> Project:
    """Returns the project with its store opened, for a verb that composes no job.

    It reads overrides such as `tracking.uri=`.

    Runs whose process died are marked as killed in the store.

    Raises:
        ConfigError: an override that such a verb does not read, or a store that cannot be used.
    """
    prepare_process(arguments)
    check_store_keys(arguments)
    if arguments.print_config:
        raise ConfigError("expected no --cfg job: this verb composes no job; train, prepare and preview do")
    project = compose_config(arguments).project
    _check_named_runs(arguments, project)
    return project.opened()


def check_store_keys(arguments: Arguments) -> None:
    """Checks that the remaining overrides only name the store, for a verb that composes no job.

    Raises:
        ConfigError: there is another override.
    """
    for text in arguments.overrides:
        if key_of(text).partition(".")[0].partition("/")[0] not in STORE_NODES:
            raise ConfigError(
                f"expected a key that this verb reads, got {text}{arguments.nearest_own(text)}\n"
                f"this verb composes no run: besides its own keys, which --help lists, it reads only keys below "
                f"{' and '.join(STORE_NODES)}"
            )


def check_keys(arguments: Arguments, read: Sequence[str], reader: str) -> None:
    """Checks that the remaining overrides give only the keys in `read` and keys below them.

    Args:
        arguments: the command line.
        read: the keys and nodes of the config that `reader` reads, such as `evaluation.bootstrap_seed` and `paths`.
        reader: what reads them, for the message.

    Raises:
        ConfigError: there is another key.
    """
    for key in sorted(arguments.given_keys()):
        if not any(key == known or key.startswith(f"{known}.") for known in read):
            raise ConfigError(
                f"expected keys that {reader} reads ({', '.join(read)}), got {key}{arguments.nearest_own(key)}\n"
                f"a run keeps the config that it was trained with"
            )


def _is_place(key: str) -> bool:
    return key == "tracking.uri" or key.partition(".")[0] == "paths"


def value_of(text: str) -> Any:
    """Returns `text` read as YAML; `1e-3`, which is text in YAML, is a number as in overrides of the config.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    import yaml

    return float(text) if _WITH_EXPONENT.fullmatch(text) else yaml.safe_load(text)


def prepare_process(arguments: Arguments) -> None:
    """Prepares the process for a verb: messages and trusted packages, and for a command also signals and leftover
    variables of a distributed environment.
    """
    from lesion_exp.config.registered import TRUST_VARIABLE
    from lesion_exp.process.distributed_environment import ignore_leftovers
    from lesion_exp.process.messages import show_messages
    from lesion_exp.process.signals import end_on_sigterm

    show_messages()
    repeat_in_commands(arguments.places())
    if not arguments.from_python:
        end_on_sigterm()
        ignore_leftovers(keep_one=arguments.joins_group)
    if arguments.trusted:
        os.environ[TRUST_VARIABLE] = ",".join([*filter(None, [os.environ.get(TRUST_VARIABLE)]), *arguments.trusted])

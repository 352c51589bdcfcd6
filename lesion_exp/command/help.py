"""The texts that `--help` prints, made from the declarations of the verbs. It imports nothing heavy."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lesion_exp.command.verbs import FLAGS, SHOWN_CONFIG, VERB_FLAGS, VERBS, Verb
from lesion_exp.config.shipped_conf import conf_dir, default_options, documented_keys, option_names
from lesion_exp.option import Choice, Option

_SHOWN_KEYS: Final = (
    "seed", "image_size", "test", "task.target", "loader.batch_size", "loader.num_workers", "dataset.root",
    "dataset.filter", "dataset.limit", "dataset.on_bad_image", "dataset.mask", "split.seed", "split.allow_leakage",
    "optimizer.lr", "backbone.weights", "backbone.metadata", "trainer.max_epochs", "trainer.devices",
    "trainer.precision", "trainer.ema_decay", "evaluation.tta", "tracking.uri", "tracking.experiment",
    "tracking.log_images",
)  # fmt: skip
"""Common keys, shown for each verb that reads their group."""
_JOB_KEYS: Final = ("seed", "image_size", "task", "loader")
"""Keys and nodes of the top level, shown for verbs that compose a job."""
_ROOT: Final = "dataset.root"
_STORE: Final = "the MLflow store of the runs; without it, MLFLOW_TRACKING_URI or the store of this project"
_PROJECT: Final = (
    "folder of the project, where runs (mlruns), sweeps and prepared images (data_cache) are kept; without it, the "
    "checkout around the current folder, else the current folder"
)


def general_help() -> str:
    """Returns the text of `lesion-exp --help`."""
    verbs = "\n".join(line for verb in VERBS.values() for line in _entry(verb.name, verb.summary, _width(), 14))
    return (
        "lesion-exp: experiments on images of skin lesions (research use only)\n\n"
        "usage: lesion-exp VERB [GROUP=OPTION] [KEY=VALUE] [flags]\n\n"
        f"{verbs}\n\n"
        "lesion-exp VERB --help lists the groups and keys of a verb.\n"
        "A first run on generated lesions: lesion-exp train experiment=demo\n"
    )


def verb_help(verb: Verb) -> str:
    """Returns the text of `lesion-exp VERB --help`: examples, groups with options, keys with defaults and meaning."""
    conf = conf_dir()
    width = _width()
    defaults = {group: name for group, name in default_options(conf).items() if group not in verb.without_default}
    lines = [f"lesion-exp {verb.name}: {verb.summary}", "", "examples:", *(f"  {line}" for line in verb.examples), ""]
    if verb.groups:
        marked = ", the default in [brackets]" if any(defaults.get(group) for group in verb.groups) else ""
        lines.append(f"groups (GROUP=OPTION{marked}):")
        for group in verb.groups:
            options = [f"[{o}]" if o == defaults.get(group) else o for o in option_names(group, [conf])]
            lines += _entry(group, " ".join(options), width, 14)
        lines.append("")
    lines.append("keys (KEY=VALUE), with their defaults; a value in capitals stands for one of yours:")
    for text, meaning in verb.words:
        lines += _entry(text, meaning, width, 34)
    for option in verb.declared():
        lines += _entry(_with_value(option), meaning_of(option), width, 34)
    for key in keys_of_config(verb):
        lines += _entry(f"{key.name}={key.default or key.placeholder}", key.meaning, width, 34)
    if verb.groups:
        here = conf.relative_to(Path.cwd()) if conf.is_relative_to(Path.cwd()) else conf
        lines.append(f"  {here}/GROUP/OPTION.yaml lists every key of an option with its meaning")
        lines.append("  --config-dir DIR adds options of your own: DIR/GROUP/OPTION.yaml")
    lines += ["", "flags:"]
    for flag, meaning in FLAGS.items():
        if flag in verb.flags or flag not in (*VERB_FLAGS, *SHOWN_CONFIG):
            lines += _entry(flag, meaning, width, 22)
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class ConfigKey:
    """A key of the config as the help of a verb shows it."""

    name: str
    default: str
    """As in the YAML; empty if `placeholder` is shown instead."""
    placeholder: str
    meaning: str


def keys_of_config(verb: Verb) -> list[ConfigKey]:
    """Returns the keys of the config in the help of a verb: those that it names, then the common ones of its groups."""
    documented = documented_keys(conf_dir(), dict(verb.chosen))
    found = []
    for text, said in verb.config_keys:
        key, _, placeholder = text.partition("=")
        default, meaning = documented.get(key, ("", ""))
        found.append(ConfigKey(key, "" if placeholder else default, placeholder, said or meaning))
    of_a_job = _JOB_KEYS if "experiment" in verb.groups else ()
    shown = [key for key in _SHOWN_KEYS if key.split(".")[0] in {*verb.groups, *of_a_job}]
    shown = [key for key in shown if key not in {*verb.own_keys, *verb.refused}]
    for key in shown:
        default, meaning = (
            ("", "folder with the files of the data set") if key == _ROOT else documented.get(key, ("", ""))
        )
        found.append(ConfigKey(key, default, "FOLDER", meaning))
    if not verb.groups and verb.reads_store and "tracking.uri" not in verb.own_keys:
        found.append(ConfigKey("tracking.uri", "", "URI", _STORE))
    if verb.groups or verb.reads_store:
        found.append(ConfigKey("paths.root", "", "FOLDER", _PROJECT))
    return found


def meaning_of(option: Option) -> str:
    """Returns the meaning of an option, with the values to choose from, and whether it is required."""
    meaning = f"{option.kind.expected}: {option.meaning}" if isinstance(option.kind, Choice) else option.meaning
    return f"{meaning} (required)" if option.is_required else meaning


def _width() -> int:
    """The width of the help, in columns."""
    return min(shutil.get_terminal_size((80, 24)).columns, 120)


def _with_value(option: Option) -> str:
    return f"{option.key}={option.written_default or option.kind.placeholder}"


def _entry(name: str, text: str, width: int, column: int) -> list[str]:
    """`name`, and `text` from `column` on, as lines of at most `width` columns."""
    indent = " " * (column + 2)
    head = f"  {name:<{column - 1}} "
    if len(head) > len(indent):
        return [head.rstrip(), *textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)]
    return textwrap.wrap(text or "-", width, initial_indent=head, subsequent_indent=indent) or [head.rstrip()]

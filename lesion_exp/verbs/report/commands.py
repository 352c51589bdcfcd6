"""The commands on a run or a sweep that its page prints, with all the words that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lesion_exp.choices import DRAWN
from lesion_exp.config.command_words import config_dir_words, store_words, trust_words, without_place
from lesion_exp.config.registered import TARGET
from lesion_exp.errors import ConfigError
from lesion_exp.terminal import shell_words
from lesion_exp.tracking.find import find_run
from lesion_exp.trained_runs.run_summary import RunArtifacts, RunSummary

PROGRAM: Final = "lesion-exp"
_MEANINGS: Final[Mapping[str, str]] = {
    "dataset.root=DIR": "DIR is the folder of the data set on your machine",
    "paths.root=ROOT": "ROOT is the folder of the project, in which mlruns is",
    "tracking.uri=URI": "URI is the address of the store of runs",
}
"""Words of the printed commands in which a word in capitals stands for a location -> what it stands for."""
_SETS: Final = "dataset.sets."
_MEANING_OF_SETS: Final = "each DIR is the folder of one of the data sets on your machine"


def command_on(facts: RunSummary, *words: str, in_store: bool = True) -> str:
    """Returns the command `lesion-exp WORDS` for a run, with its store and the user's packages that it uses.

    Args:
        facts: the run.
        words: verb, keys and values.
        in_store: whether the command looks for the run in its store.
    """
    made = _trained(facts)
    places = map(without_place, store_words(_texts(made.job.get("overrides")))) if in_store else ()
    return shell_words([PROGRAM, *words, *places, *trust_words(made.config)])


def command_on_sweep(facts: Mapping[str, Any], configs: Iterable[Mapping[str, Any]], *words: str) -> str:
    """Returns the command `lesion-exp WORDS` for a sweep, with its store and the user's packages that its cells use.

    Args:
        facts: those of the sweep.
        configs: of its cells.
        words: verb, keys and values.
    """
    places = map(without_place, store_words(_texts(facts.get("overrides"))))
    return shell_words([PROGRAM, *words, *places, *_all_trusted(configs)])


def made_by(facts: RunSummary) -> str | None:
    """Returns the command that made the run, without locations on its machine; None if it is not stored."""
    overrides = facts.job.get("overrides")
    if not isinstance(overrides, list):
        return None
    own = config_dir_words(_texts(overrides), _texts(facts.job.get("replaced")))
    return shell_words([PROGRAM, "train", *map(without_place, _texts(overrides)), *own, *trust_words(facts.config)])


def swept_by(facts: Mapping[str, Any], configs: Iterable[Mapping[str, Any]]) -> str | None:
    """Returns the command that made the sweep with these `facts`; None if they do not name its overrides."""
    overrides = _texts(facts.get("overrides"))
    own = [*config_dir_words(overrides), *_all_trusted(configs)]
    words = [PROGRAM, "train", "-m", *map(without_place, overrides), *own]
    return shell_words(words) if overrides else None


def placeholders(*commands: str) -> str:
    """Returns a sentence on the words in capitals in `commands` that stand for locations; empty without such words."""
    words = {word for command in commands for word in command.split()}
    found = [meaning for word, meaning in _MEANINGS.items() if word in words]
    found += [_MEANING_OF_SETS] if any(word.startswith(_SETS) and word.endswith("=DIR") for word in words) else []
    return f"{'; '.join(found)}." if found else ""


def data_words(config: Mapping[str, Any]) -> list[str]:
    """Returns the words that say where the data of a job are: `dataset.root=DIR`, or one for each of several data sets.

    There are none if its data are drawn anew.
    """
    dataset = config.get("dataset")
    sets = dataset.get("sets") if isinstance(dataset, Mapping) else None
    if isinstance(sets, Mapping):
        return [f"{_SETS}{name}=DIR" for name in sets]
    return [] if isinstance(dataset, Mapping) and dataset.get(TARGET) == DRAWN else ["dataset.root=DIR"]


def _all_trusted(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    flagged = [trust_words(config) for config in configs]
    packages = dict.fromkeys(package for words in flagged for package in words[1::2])
    return [word for package in packages for word in ("--trust", package)]


def _trained(facts: RunSummary) -> RunSummary:
    """The run whose job names the store and the packages: for an ensemble its first member, if it is in the store."""
    for name in facts.members[:1] if not facts.job else ():
        try:
            member = find_run(facts.run.store, name)
        except ConfigError:
            break
        return RunSummary(member, RunArtifacts(member))
    return facts


def _texts(words: Iterable[object] | None) -> list[str]:
    return [str(word) for word in words] if isinstance(words, (list, tuple)) else []

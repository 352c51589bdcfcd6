"""The commands on a run or a sweep that its page prints, with all the words that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lesion_exp.config.command_words import config_dir_words, store_words, trust_words, without_place
from lesion_exp.errors import ConfigError
from lesion_exp.terminal import shell_words
from lesion_exp.tracking.find import find_run
from lesion_exp.trained_runs.run_summary import RunArtifacts, RunSummary

PROGRAM = "lesion-exp"


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


def command_on_sweep(facts: Mapping[str, Any], *words: str) -> str:
    """Returns the command `lesion-exp WORDS` for a sweep with its store; `facts` are those of the sweep."""
    return shell_words([PROGRAM, *words, *map(without_place, store_words(_texts(facts.get("overrides"))))])


def made_by(facts: RunSummary) -> str | None:
    """Returns the command that made the run, without locations on its machine; None if it is not stored."""
    overrides = facts.job.get("overrides")
    if not isinstance(overrides, list):
        return None
    own = config_dir_words(_texts(overrides), _texts(facts.job.get("replaced")))
    return shell_words([PROGRAM, "train", *map(without_place, _texts(overrides)), *own, *trust_words(facts.config)])


def swept_by(facts: Mapping[str, Any]) -> str | None:
    """Returns the command that made the sweep with these `facts`; None if they do not name its overrides."""
    overrides = _texts(facts.get("overrides"))
    words = [PROGRAM, "train", "-m", *map(without_place, overrides), *config_dir_words(overrides)]
    return shell_words(words) if overrides else None


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

"""The verb `completion`: the script that a shell needs, and the words that it then offers; nothing heavy is imported.

The script sets the environment variable `LESION_EXP_COMPLETE` to the line up to the cursor and calls `lesion-exp`,
which prints the words for the last one, one per line. A word that ends in `=` or `.` is to be continued.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from lesion_exp.choices import CHOICES
from lesion_exp.command.arguments import Arguments
from lesion_exp.command.verbs import FLAGS, VERB_FLAGS, VERBS, Verb
from lesion_exp.config.shipped_conf import (
    conf_dir,
    default_options,
    document_names,
    documented_keys,
    find_root,
    option_names,
)
from lesion_exp.errors import ConfigError, nearest
from lesion_exp.option import TRUTHS, Choice, Truth
from lesion_exp.tracking.run_names import read_only

LINE: Final = "LESION_EXP_COMPLETE"
MOST_RUNS: Final = 30
"""Runs that are offered, the latest ones."""
_ID_LENGTH: Final = 12
_RUN_KEYS: Final = ("run",)
_SWEEP_KEYS: Final = ("sweep",)
_OF_SWEEPS: Final = ("status", "resume", "retry", "cancel")
_RUN_WORDS: Final = ("latest", "best:val/balanced_accuracy")
_TAKES_PATH: Final = ("--config-dir", "--trust")

SCRIPTS: Final[Mapping[str, str]] = {
    "bash": """\
_lesion_exp() {
    local line="${COMP_LINE:0:COMP_POINT}" word kept
    word="${line##*[[:space:]]}"
    kept=""
    [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]] && kept="${word%%=*}="
    local IFS=$'\\n'
    COMPREPLY=($(LESION_EXP_COMPLETE="$line" lesion-exp 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    [[ ${#COMPREPLY[@]} -gt 0 && "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _lesion_exp lesion-exp
""",
    "zsh": """\
#compdef lesion-exp
_lesion_exp() {
    local -a found
    found=(${(f)"$(LESION_EXP_COMPLETE="${LBUFFER}" lesion-exp 2>/dev/null)"})
    if (( ${#found} )); then
        compadd -S '' -- $found
    else
        compset -P '*='
        _files
    fi
}
compdef _lesion_exp lesion-exp
""",
    "fish": """\
function __lesion_exp_words
    set -lx LESION_EXP_COMPLETE (commandline --cut-at-cursor --current-process)
    lesion-exp 2>/dev/null
end
complete --command lesion-exp --arguments '(__lesion_exp_words)'
""",
}
PLACES: Final[Mapping[str, str]] = {
    "bash": 'eval "$(lesion-exp completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(lesion-exp completion zsh)" in ~/.zshrc, after compinit',
    "fish": "lesion-exp completion fish > ~/.config/fish/completions/lesion-exp.fish",
}
"""How each script is installed for good."""


def completion(arguments: Arguments) -> int:
    """Prints the script for a shell."""
    names = [*arguments.names, *arguments.overrides]
    if len(names) != 1 or names[0] not in SCRIPTS:
        got = " ".join(names) or "none"
        hint = f"; {nearest(got, SCRIPTS)}" if names else f"; for example {PLACES['bash']}"
        raise ConfigError(f"expected a shell, bash, zsh or fish, got {got}{hint}")
    print(SCRIPTS[names[0]], end="")
    return 0


def candidates(line: str, folder: Path) -> list[str]:
    """Returns the words that may stand in the place of the last one of `line`, a command up to the cursor.

    Args:
        line: the line, with the name of the command.
        folder: the current folder; runs and sweeps are those of its project.
    """
    words = _split(line)
    current = "" if not words or line[-1:].isspace() else words.pop()
    given = words[1:]
    if not given:
        return _beginning([*VERBS, "--help", "--version"], current)
    verb = VERBS.get(given[0])
    if verb is None or given[-1] in _TAKES_PATH:
        return []
    if current.startswith("-"):
        flags = (name.partition(" ")[0] for name in FLAGS if name not in VERB_FLAGS or name in verb.flags)
        return _beginning(flags, current)
    folders = [conf_dir(), *_config_dirs(given)]
    if "=" in current:
        return _values(verb, current, given, folders, folder)
    return _beginning(_names(verb, given, folder), current) + _next_parts(_keys(verb, given), current)


def _names(verb: Verb, given: Sequence[str], folder: Path) -> list[str]:
    """Words without `=` that may stand next."""
    if verb.name == "completion":
        return list(SCRIPTS)
    if verb.name == "schema":
        return document_names([conf_dir(), *_config_dirs(given)])
    if verb.name == "sweep":
        return [*_OF_SWEEPS] if len(given) == 1 else ["latest", *_sweep_ids(folder)]
    words = [pattern.split(" ")[0] for pattern, _ in verb.words if "=" not in pattern]
    runs = [*_runs(folder, ""), *_aliases(folder)] if verb.takes_names else []
    return [*(word for word in words if not word.isupper()), *runs]  # words in capitals stand for others


def _keys(verb: Verb, given: Sequence[str]) -> list[str]:
    """Every key and group that the verb reads, with `=`."""
    used = {word.partition("=")[0] for word in given}
    chosen = _chosen(verb.groups, given)
    keys = [f"{group}=" for group in verb.groups]
    keys += [f"{key}=" for key in verb.own_keys]
    if verb.groups:
        of_groups = {"seed", "image_size", "test", "tags", "task", "loader", "print_config", *verb.groups}
        keys += [f"{key}=" for key in documented_keys(conf_dir(), chosen) if key.partition(".")[0] in of_groups]
    return [key for key in dict.fromkeys(keys) if key[:-1] not in used and not key.endswith("_target_=")]


def _values(verb: Verb, current: str, given: Sequence[str], folders: Sequence[Path], folder: Path) -> list[str]:
    """`KEY=VALUE` for each value that the key of `current` may have; after a comma, for each further one."""
    key, _, text = current.partition("=")
    before, comma, last = text.rpartition(",")
    head = f"{key}={before}{comma}"
    name = key.lstrip("+~")
    if name in _RUN_KEYS:
        found: Iterable[str] = [*_RUN_WORDS, *_aliases(folder), *_runs(folder, last)]
    elif name in _SWEEP_KEYS:
        found = ["latest", *_sweep_ids(folder)]
    else:
        found = _allowed(verb, name, given, folders)
    return [f"{head}{value}" for value in _beginning(found, last)]


def _allowed(verb: Verb, key: str, given: Sequence[str], folders: Sequence[Path]) -> Iterable[str]:
    for option in verb.declared():
        if option.key == key:
            kind = option.kind
            return kind.values if isinstance(kind, Choice) else TRUTHS if isinstance(kind, Truth) else ()
    if key in CHOICES:
        return CHOICES[key]
    options = option_names(key.partition("@")[0], folders)
    if options:
        return options
    chosen = _chosen(default_options(conf_dir()), given)
    default = documented_keys(conf_dir(), chosen).get(key, ("", ""))[0]
    return TRUTHS if default in TRUTHS else ()


def _chosen(groups: Iterable[str], given: Sequence[str]) -> dict[str, str]:
    """The option of each of `groups` that the line names."""
    pairs = (word.partition("=")[::2] for word in given)
    return {group: option for group, option in pairs if group in set(groups)}


def _next_parts(keys: Iterable[str], current: str) -> list[str]:
    """The keys that begin with `current`, each up to its next dot; a node with a single key is not stopped at."""
    fitting = [key for key in keys if key.startswith(current)]
    parts: dict[str, list[str]] = {}
    for key in fitting:
        head, dot, _ = key[len(current) :].partition(".")
        parts.setdefault(f"{current}{head}{dot}", []).append(key)
    return [part if len(behind) > 1 or not part.endswith(".") else behind[0] for part, behind in parts.items()]


def _beginning(words: Iterable[str], current: str) -> list[str]:
    return [word for word in words if word.startswith(current)]


def _runs(folder: Path, beginning: str) -> list[str]:
    """The beginnings of the ids of the latest runs in the embedded store of the project of `folder`."""
    found = _select(
        folder,
        "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' AND substr(run_uuid, 1, ?) = ? "
        "ORDER BY start_time DESC LIMIT ?",
        (len(beginning), beginning, MOST_RUNS),
    )
    return [run_id[: max(_ID_LENGTH, len(beginning))] for run_id in found]


def _aliases(folder: Path) -> list[str]:
    """The aliases of registered models in that store."""
    return _select(folder, "SELECT DISTINCT alias FROM registered_model_aliases ORDER BY alias LIMIT ?", (MOST_RUNS,))


def _select(folder: Path, query: str, values: Sequence[object]) -> list[str]:
    """The first column of the rows that `query` finds; none where there is no store, or none that can be read."""
    database = find_root(folder) / "mlruns" / "mlflow.db"
    if not database.is_file():
        return []
    with suppress(sqlite3.Error), closing(read_only(database, 0.1)) as store:
        return [str(row[0]) for row in store.execute(query, tuple(values))]
    return []


def _sweep_ids(folder: Path) -> list[str]:
    sweeps = find_root(folder) / "sweeps"
    return sorted((path.name for path in sweeps.iterdir() if path.is_dir()), reverse=True) if sweeps.is_dir() else []


def _config_dirs(given: Sequence[str]) -> list[Path]:
    pairs = zip(given, [*given[1:], ""], strict=True)
    after = [following for word, following in pairs if word == "--config-dir" and following]
    return [Path(text).expanduser() for text in after] + [
        Path(word.removeprefix("--config-dir=")).expanduser() for word in given if word.startswith("--config-dir=")
    ]


def _split(line: str) -> list[str]:
    for closing_quote in ("", "'", '"'):
        with suppress(ValueError):  # a quote is still open
            return shlex.split(f"{line}{closing_quote}")
    return line.split()

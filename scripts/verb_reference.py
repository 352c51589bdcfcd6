"""Makes the reference of the verbs and their keys from what the verbs declare."""

from __future__ import annotations

from typing import Final

from lesion_exp.command.help import keys_of_config, meaning_of
from lesion_exp.command.verbs import FLAGS, VERBS, Verb
from lesion_exp.option import Choice, Option

PAGE: Final = "reference/verbs.md"
_INTRODUCTION: Final = """\
# Verbs and their keys

<!-- Written by `make reference` from the declarations of the verbs; do not edit this page. -->

Each verb also takes the groups and keys of the config that `lesion-exp VERB --help` lists; [Config](config/index.md)
explains all of them. The [flags](#flags) are listed at the end of this page.
"""


def pages() -> dict[str, str]:
    """The page by its path below docs/: the summary of each verb, a table of its keys, and the flags."""
    return {PAGE: "\n".join([_INTRODUCTION, *(line for verb in VERBS.values() for line in _section(verb)), *_flags()])}


def _section(verb: Verb) -> list[str]:
    rows = [(text, "", "", meaning) for text, meaning in verb.words]
    rows += [_row(option) for option in verb.declared()]
    named = {text.partition("=")[0] for text, _ in verb.config_keys}
    rows += [(key.name, "of the config", key.default, key.meaning) for key in keys_of_config(verb) if key.name in named]
    heading = [f"## {verb.name}", "", f"{verb.summary[0].upper()}{verb.summary[1:]}.", ""]
    if not rows:
        return heading
    table = ["| key | value | default | meaning |", "|---|---|---|---|"]
    table += [
        f"| `{key}` | {_cell(value)} | {_code(default)} | {_cell(meaning)} |" for key, value, default, meaning in rows
    ]
    return [*heading, *table, ""]


def _flags() -> list[str]:
    rows = []
    for flag, meaning in FLAGS.items():
        takers = [f"`{verb.name}`" for verb in VERBS.values() if flag in verb.flags]
        rows.append(
            f"| `{flag}` | {_cell(meaning).replace('_target_', '`_target_`')} | {', '.join(takers) or 'all verbs'} |"
        )
    return ["## Flags", "", "| flag | meaning | verbs |", "|---|---|---|", *rows, ""]


def _row(option: Option) -> tuple[str, str, str, str]:
    meaning = option.meaning if isinstance(option.kind, Choice) else meaning_of(option).removesuffix(" (required)")
    default = "required" if option.is_required else option.written_default or ""
    return option.key, option.kind.expected, default, meaning


def _code(default: str) -> str:
    return default if default in {"", "required"} else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", r"\<")

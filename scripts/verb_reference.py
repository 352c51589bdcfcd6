"""Writes the README's reference of the verbs and their keys, from what the verbs declare.

python scripts/verb_reference.py            # writes it between the two markers of README.md
python scripts/verb_reference.py --check    # ends with 1 if it stands there otherwise
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from lesion_exp.command.help import keys_of_config, meaning_of
from lesion_exp.command.verbs import VERBS, Verb
from lesion_exp.option import Choice, Option

README: Final = Path(__file__).parents[1] / "README.md"
BEGIN: Final = "<!-- verbs: written by scripts/verb_reference.py -->"
END: Final = "<!-- end of verbs -->"


def reference() -> str:
    """The reference: the summary of each verb, and a table of its keys."""
    sections = [line for verb in VERBS.values() for line in _section(verb)]
    return "\n".join(["<details><summary>All keys, verb by verb</summary>", "", *sections, "</details>", ""])


def with_reference(text: str) -> str:
    """`text`, with the reference as it should be between the markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"expected the marker {BEGIN} in {README.name}"
    assert end, f"expected the marker {END} in {README.name}"
    return f"{before}{BEGIN}\n{reference()}{END}{after}"


def _section(verb: Verb) -> list[str]:
    rows = [(text, "", "", meaning) for text, meaning in verb.words]
    rows += [_row(option) for option in verb.declared()]
    named = {text.partition("=")[0] for text, _ in verb.config_keys}
    rows += [(key.name, "of the config", key.default, key.meaning) for key in keys_of_config(verb) if key.name in named]
    heading = [f"**`{verb.name}`**: {verb.summary}", ""]
    if not rows:
        return heading
    table = ["| key | value | default | meaning |", "|---|---|---|---|"]
    table += [
        f"| `{key}` | {_cell(value)} | {_code(default)} | {_cell(meaning)} |" for key, value, default, meaning in rows
    ]
    return [*heading, *table, ""]


def _row(option: Option) -> tuple[str, str, str, str]:
    meaning = option.meaning if isinstance(option.kind, Choice) else meaning_of(option).removesuffix(" (required)")
    default = "required" if option.is_required else option.written_default or ""
    return option.key, option.kind.expected, default, meaning


def _code(default: str) -> str:
    return default if default in {"", "required"} else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", r"\<")


def main() -> int:
    """Writes or checks the reference; returns 0 if README.md has it now."""
    text = README.read_text("utf-8")
    wanted = with_reference(text)
    if "--check" in sys.argv[1:]:
        return int(text != wanted)
    README.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

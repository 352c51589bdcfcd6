"""Makes the facts on the page of each data set from its module and its YAML; the rest is written by hand."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Final

from lesion_exp.config.shipped_conf import _keys_of_file as keys_of_file
from lesion_exp.config.shipped_conf import conf_dir, option_names
from scripts.config_reference import table

DOCS: Final = Path(__file__).parents[1] / "docs"
BEGIN: Final = "<!-- facts: written by `make reference` from the module and the YAML of the data set -->"
END: Final = "<!-- end of facts -->"
_SHARED: Final = ("name", "defaults", "root")


def pages() -> dict[str, str]:
    """The pages by their paths below docs/, each with its facts between the markers."""
    found = {}
    for option in option_names("dataset", [conf_dir()]):
        path = f"datasets/{option}.md"
        text = (DOCS / path).read_text("utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        assert begin, f"docs/{path} needs the line {BEGIN}"
        assert end, f"docs/{path} needs the line {END}"
        found[path] = "\n".join([f"{before}{BEGIN}", "", *_facts(option), f"{END}{after}"])
    return found


def _facts(option: str) -> list[str]:
    info = getattr(importlib.import_module(f"lesion_exp.dataset.{option}"), "INFO", None)
    lines = []
    if info is not None and info.where:
        lines += [
            f"- **Source:** {_linked(info.where)}",
            f"- **Licence:** {info.licence}",
            f"- **Citation:** {info.citation}", "",
        ]  # fmt: skip
        if info.published_counts:
            lines += ["Images (cases, where a row is a case) of each class, as published, with the default keys:", ""]
            lines += [f"| {' | '.join(f'`{name}`' for name in info.published_counts)} | all |"]
            lines += ["|" + "---|" * (len(info.published_counts) + 1)]
            counts = [*info.published_counts.values(), sum(info.published_counts.values())]
            lines += [f"| {' | '.join(f'{count:,}' for count in counts)} |", ""]
    keys = {
        key: value
        for key, value in keys_of_file(conf_dir() / "dataset" / f"{option}.yaml").items()
        if key not in _SHARED
    }
    shown = table(keys, "dataset.")
    if shown:
        link = "[those of every data set](../reference/config/dataset.md#keys-of-every-option)"
        lines += [f"Keys, beside {link}:", "", *shown]
    return lines


def _linked(text: str) -> str:
    text = re.sub(r"doi:(10\.[^\s:]+)", r"[doi:\1](https://doi.org/\1)", text)
    return re.sub(r"(?<!\()https?://[^\s:,]+(?=[:,\s])", lambda match: f"<{match[0]}>", text)

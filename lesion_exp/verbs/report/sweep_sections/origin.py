"""What a sweep was made of, and how to make it again."""

from __future__ import annotations

import shlex

import yaml

from lesion_exp.trained_runs.wording import NONE, listed
from lesion_exp.verbs.report.blocks import Block, Cell, Code, Pairs, Section, not_stored
from lesion_exp.verbs.report.sections.reproduce import without_place
from lesion_exp.verbs.report.swept import FACTS, Swept


def config(swept: Swept) -> Section:
    """The section with the config."""
    facts = swept.facts
    if not facts:
        return Section("config", "Config", [not_stored(FACTS)])
    pairs: dict[str, Cell] = {
        "keys that differ": listed(swept.keys),
        "the same for all": " ".join(without_place(text) for text in facts.get("fixed", [])) or NONE,
        "commit": swept.parent.tags.get("git_commit", NONE),
    }
    nodes = {node: facts[node] for node in ("search", "launcher", "space") if facts.get(node)}
    text = yaml.safe_dump(nodes, sort_keys=False, width=100, allow_unicode=True)
    return Section("config", "Config", [Pairs(pairs, wide=True), Code("Search and launcher", text)])


def reproduce(swept: Swept) -> Section:
    """The section on reproduction."""
    sweep_id = swept.parent.tags.get("sweep_id", swept.parent.run_id)
    words = [shlex.quote(without_place(str(text))) for text in swept.facts.get("overrides", [])]
    made: Block = Code("It was made by", " ".join(["lesion-exp train -m", *words])) if words else not_stored(FACTS)
    blocks = [
        made,
        Code("Goes on with what is missing", f"lesion-exp sweep resume {sweep_id}"),
        Code("Tries again what failed", f"lesion-exp sweep retry {sweep_id}"),
        Code("One cell again, compared with the first time", "lesion-exp reproduce run=RUN dataset.root=DIR"),
        Code("All of it as one file, for another machine", f"lesion-exp bundle export run={sweep_id} output=sweep.zip"),
    ]
    return Section("reproduce", "How to reproduce", blocks)

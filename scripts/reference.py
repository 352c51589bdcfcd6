"""Writes the pages of docs/reference and the facts of docs/datasets from what the code and conf/ declare.

python scripts/reference.py            # writes them
python scripts/reference.py --check    # ends with 1 and names the pages that say otherwise
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts import config_reference, dataset_reference, python_reference, verb_reference

DOCS: Final = Path(__file__).parents[1] / "docs"
INDEX: Final = "reference/index.md"
"""The page of the folder that is written by hand."""


def pages() -> dict[str, str]:
    """All pages by their paths below docs/."""
    makers = (verb_reference, config_reference, python_reference, dataset_reference)
    return {path: f"{text.rstrip()}\n" for maker in makers for path, text in maker.pages().items()}


def outdated() -> dict[str, str | None]:
    """The pages that are missing or say something else, with the text that they should have; None for one to remove."""
    wanted = pages()
    there = {path.relative_to(DOCS).as_posix() for path in (DOCS / "reference").rglob("*.md")} - {INDEX}
    changed = {
        path: text
        for path, text in wanted.items()
        if not (DOCS / path).is_file() or (DOCS / path).read_text("utf-8") != text
    }
    return {**changed, **dict.fromkeys(sorted(there - wanted.keys()))}


def main() -> int:
    """Writes or checks the pages; returns 0 if they are current now."""
    changed = outdated()
    if "--check" in sys.argv[1:]:
        print("\n".join(changed), end="\n" if changed else "")
        return int(bool(changed))
    for path, text in changed.items():
        print(f"docs/{path}")
        if text is None:
            (DOCS / path).unlink()
            continue
        (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / path).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

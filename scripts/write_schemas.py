"""Writes the JSON schemas of the shipped options into the package, from what the code and conf/ say.

python scripts/write_schemas.py
"""

from __future__ import annotations

import sys

from lesion_exp.config.json_schema import document, in_lines, published
from lesion_exp.config.shipped_conf import conf_dir, document_names


def main() -> int:
    """Writes every schema, and removes those of groups that are gone."""
    folders = [conf_dir()]
    files = {published(name): in_lines(document(name, folders)) for name in document_names(folders)}
    place = next(iter(files)).parent
    place.mkdir(exist_ok=True)
    for path in place.glob("*.json"):
        if path not in files:
            path.unlink()
    for path, text in files.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes the reference of the Python interface from signatures and docstrings, without importing them."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1] / "lesion_exp"
PAGE: Final = "reference/python.md"
FUNCTIONS: Final = {"interface.py": "lesion_exp", "testing.py": "lesion_exp.testing"}
"""Modules whose public functions are described, and where they are imported from."""
RESULTS: Final = {
    "verbs/report/shown_result.py": "Shown",
    "training/run_context.py": "JobResult",
    "shown.py": "Shown",
    "trained_runs/trained_run.py": "TrainedRun",
}
"""Modules with the classes of results, and how their names begin."""
_SECTION: Final = re.compile(r"^(Args|Raises|Returns|Yields|Attributes):$")
_ENTRY: Final = re.compile(r"^(\*{0,2}[\w.]+): (.*)$")


def pages() -> dict[str, str]:
    """The page by its path below docs/."""
    lines = [
        "# Python interface", "",
        "<!-- Written by `make reference` from the docstrings; do not edit this page. -->", "",
        "[From Python](../python.md) shows how these functions are used.", "", "## Functions", "",
    ]  # fmt: skip
    for module, place in FUNCTIONS.items():
        for node in _public(_tree(module), ast.FunctionDef):
            if node.name in _exported(module):
                lines += [f"### {node.name}", "", *_signature(node, f"{place}.{node.name}"), *_docstring(node)]
    lines += ["## Results", ""]
    for module, beginning in RESULTS.items():
        for node in _public(_tree(module), ast.ClassDef):
            lines += _class(node) if node.name.startswith(beginning) else []
    return {PAGE: "\n".join(lines)}


def _exported(module: str) -> set[str]:
    if module != "interface.py":
        return {node.name for node in _public(_tree(module), ast.FunctionDef)}
    for node in _tree("__init__.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError("lesion_exp/__init__.py has no __all__")


def _tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text("utf-8"))


def _public(tree: ast.Module | ast.ClassDef, kind: type) -> Iterator:
    return (node for node in tree.body if isinstance(node, kind) and not node.name.startswith("_"))


def _class(node: ast.ClassDef) -> list[str]:
    bases = ", ".join(f"`{ast.unparse(base)}`" for base in node.bases if ast.unparse(base) not in {"Protocol", "ABC"})
    lines = [f"### {node.name}", "", *_docstring(node), *([f"It is also a {bases}.", ""] if bases else [])]
    for name, annotation, about in _fields(node):
        lines += [f"- `{name}: {annotation}`{f'. {about}' if about else ''}"]
    for method in _public(node, ast.FunctionDef):
        is_property = any("property" in ast.unparse(one) for one in method.decorator_list)
        shown = method.name if is_property else f"{method.name}({_parameters(method)})"
        returns = f": {ast.unparse(method.returns)}" if method.returns is not None else ""
        about = " ".join((ast.get_docstring(method) or "").split("\n\n")[0].split())
        lines += [f"- `{shown}{returns}`. {_escaped(about)}"]
    return [*lines, ""]


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    for position, child in enumerate(node.body):
        if isinstance(child, ast.AnnAssign) and not ast.unparse(child.target).startswith("_"):
            following = node.body[position + 1] if position + 1 < len(node.body) else None
            has_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            about = " ".join(str(following.value.value).split()) if has_text else ""
            yield ast.unparse(child.target), ast.unparse(child.annotation), _escaped(about)


def _parameters(node: ast.FunctionDef) -> str:
    return re.sub(r"^(self|cls)(, )?", "", ast.unparse(node.args))


def _signature(node: ast.FunctionDef, name: str) -> list[str]:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    one_line = f"{name}({_parameters(node)}){returns}"
    if len(one_line) <= 100:
        return ["```text", one_line, "```", ""]
    parts = _split(_parameters(node))
    return ["```text", f"{name}(", *(f"    {part}," for part in parts), f"){returns}", "```", ""]


def _split(text: str) -> list[str]:
    """Parameters at the commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _docstring(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """A docstring in Google's style as Markdown."""
    lines: list[str] = []
    section = ""
    for line in (ast.get_docstring(node) or "").splitlines():
        match = _SECTION.match(line)
        if match is not None:
            section = match[1]
            title = {"Args": "Arguments"}.get(section, section)
            lines += [f"**{title}**", ""]
            continue
        if section and not line.startswith(" ") and line:
            section = ""
        text = textwrap.dedent(line) if section else line
        entry = _ENTRY.match(text) if section and line.startswith("    ") and not line.startswith("     ") else None
        if entry is not None and section != "Returns":
            lines.append(f"- `{entry[1]}`: {_escaped(entry[2])}")
        elif section and line.startswith("     "):
            lines.append(f"  {_escaped(text.strip())}")
        else:
            lines.append(_escaped(text))
    return [*lines, ""]


def _escaped(text: str) -> str:
    return re.sub(r"<(?=\w)", r"\<", text)

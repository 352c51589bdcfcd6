"""The page on statistics names tests that exist, and every figure of the evaluation."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "statistics.md").read_text("utf-8")


def test_each_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) >= 20
    missing = []
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text("utf-8")) if (ROOT / path).is_file() else ast.parse("")
        if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{path}::{name}")
    assert not missing


def test_each_figure_with_numbers_stands_on_the_page() -> None:
    """A figure is a public function of `evaluation/figures` that returns one; pictures of lesions have no numbers."""
    of_lesions = {"saliency_gallery", "gallery", "image_batch", "square_axes"}
    drawn = {
        node.name
        for path in (ROOT / "lesion_exp" / "evaluation" / "figures").glob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        and node.returns is not None and "Figure" in ast.unparse(node.returns)
    }  # fmt: skip
    assert len(drawn) >= 10
    missing = {name for name in drawn - of_lesions if f"`{name}`" not in PAGE}
    assert not missing, "each needs a row in docs/statistics.md with the test that ties it to its number"


def test_each_script_and_module_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`python (scripts/\w+\.py)", PAGE)) | {
        f"lesion_exp/{path}" for path in re.findall(r"`(verbs/report/[\w/]+\.py)`", PAGE)
    }
    assert len(named) >= 7
    assert {path for path in named if not (ROOT / path).is_file()} == set()

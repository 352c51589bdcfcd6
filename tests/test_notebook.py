"""The notebook that README names runs from its first cell to its last."""

import ast
import json
from pathlib import Path

import pytest

from tests.pictures import without_pictures
from tests.tiny import TINY

NOTEBOOK = Path(__file__).parent.parent / "scripts" / "quickstart.ipynb"
CELLS = [
    "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"
]
GIVEN = '"experiment=demo"'


def test_readme_names_the_notebook_and_it_is_kept_without_results():
    assert f"](scripts/{NOTEBOOK.name})" in (NOTEBOOK.parent.parent / "README.md").read_text("utf-8")
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
def test_every_cell_runs_and_shows_its_result(root, monkeypatch, own_process):
    monkeypatch.chdir(root)
    small = ", ".join(f'"{word}"' for word in TINY if word.split("=")[0] not in "trainer.max_epochs print_config")
    assert any(GIVEN in cell for cell in CELLS)
    names, shown = {}, []
    with without_pictures():
        for cell in CELLS:
            *statements, last = ast.parse(cell.replace(GIVEN, small).replace("seed=1,2", "seed=1")).body
            exec(compile(ast.Module(statements, []), NOTEBOOK.name, "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names))
            else:
                exec(compile(ast.Module([last], []), NOTEBOOK.name, "exec"), names)
    assert len(shown) == len(CELLS) - 1  # the first installs
    assert all("<" in result._repr_html_() for result in shown)

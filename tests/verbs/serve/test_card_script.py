"""What the script of the page makes of the model card."""

import json
import shutil
import subprocess
from importlib.resources import files

import pytest

from lesion_exp.config.compose import compose
from lesion_exp.tracking.stored_run import read_predictions
from lesion_exp.verbs.serve.model_card import model_card
from lesion_exp.verbs.serve.served_model import open_model
from lesion_exp.verbs.serve.settings import ModelOptions

PAGE = files("lesion_exp.verbs.serve") / "page"
SHOW = """
const { showCard } = await import(SCRIPT);
const texts = (node) => typeof node === "string" ? [node] : node.children.flatMap(texts);
const kept = (child) => (typeof child === "object" ? child : String(child));
globalThis.document = {
  createElement: () => ({
    children: [],
    setAttribute() {},
    append(...made) { this.children.push(...made.map(kept)); },
  }),
};
const body = { replaceChildren(...children) { this.children = children; } };
showCard(body, CARD);
console.log(JSON.stringify(texts(body)));
"""


@pytest.fixture
def shown(tmp_path):
    """Returns the texts that the page shows of a model card."""
    if shutil.which("node") is None:
        pytest.skip("needs Node.js to run the page's script")
    for name in ("card.js", "dom.js"):
        shutil.copy(PAGE / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def show(card):
        script = json.dumps((tmp_path / "card.js").as_uri())
        program = SHOW.replace("SCRIPT", script).replace("CARD", json.dumps(card))
        command = ["node", "--input-type=module", "-e", program]
        return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    return show


@pytest.mark.parametrize("unit", ["lesion", "patient"])
def test_beside_intervals_stands_the_number_of_what_they_are_over(project, monkeypatch, shown, unit):
    root, run = project
    patients = [f"pat{place // 4}" for place in range(180)]
    table = read_predictions(run, "test").assign(patient_id=patients)
    monkeypatch.setattr("lesion_exp.trained_runs.statements.read_stored_table", lambda *_: table)
    monkeypatch.setattr("lesion_exp.verbs.serve.served_model.unit_of", lambda *_: unit)
    card = model_card(run, open_model(run, ModelOptions(), compose([], root=root).project))
    texts = shown(card)
    start = texts.index("Predictions on the test part, by their probability") + 1
    assert texts[start : start + 5] == ["confidence", "images", f"{unit}s", "right", "95% interval"]
    rates = [entry["right"] for entry in card["answers"]["by_confidence"]]
    assert any(rates)
    counts = texts[start + 7 :: 5][: len(rates)]
    assert counts == [str(rate[f"{unit}s"]) if rate else "0" for rate in rates]

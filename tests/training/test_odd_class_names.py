"""A whole run, and all that is made of it, whose classes have names that mean something elsewhere."""

import json
import random

import pandas as pd
import pytest
from PIL import Image

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.text_table import escaped
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.mlflow_values import allowed_name
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from tests.own_process import restored
from tests.tiny import TINY

NAMES = (
    "../x", "..", "=cmd|' /c calc'!a0", "<b>", "macro", "mean", "all", "con", "n" * 200, "\N{STETHOSCOPE} mole", "dys",
    "dys_low", 'a,b;"q"', "$5 \\bad{ $", "{x}", "%s", "c: d #e",
)  # fmt: skip
IMAGES = 7
TRAINED = (
    *(word for word in TINY if not word.startswith("dataset.")),
    "dataset=csv",
    "dataset.table=t.csv",
    "dataset.columns={label: dx, lesion_id: lesion}",
    "trainer.max_epochs=1",
    "loader.batch_size=16",
)
pytestmark = pytest.mark.slow


def draw_images(folder):
    """Pictures of one colour a class, of which a table says the class."""
    (folder / "images").mkdir(parents=True)
    rng = random.Random(0)
    rows = []
    for number, name in enumerate(NAMES):
        colour = tuple(rng.randrange(256) for _ in range(3))
        for image in range(IMAGES):
            path = folder / "images" / f"im_{number:02d}_{image}.png"
            Image.effect_noise((40, 32), 60).convert("RGB").save(path)
            picture = Image.open(path)
            Image.blend(picture, Image.new("RGB", picture.size, colour), 0.7).save(path)
            rows.append({"image_id": path.stem, "dx": name, "lesion": f"l{number}_{image}"})
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)


@pytest.fixture(scope="module")
def call():
    """Calls the command, which must end with 0, and gives the last line of its standard output."""

    def call(capsys, root, *words):
        with restored():
            code = main([*words, f"paths.root={root}"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out.strip().splitlines()[-1], said.err

    return call


def test_a_whole_run_with_odd_class_names(tmp_path, capsys, call):
    data, root = tmp_path / "data", tmp_path / "deep" / "project"
    draw_images(data)
    run_id, said = call(capsys, root, "train", *TRAINED, f"dataset.root={data}")
    assert said.count("MLflow does not accept some characters") == 1
    assert said.count("missing from font") == 1
    store = compose(TINY, root=root).project.store
    run = find_run(store, run_id)
    check_results(run)

    table, told = tmp_path / "p.csv", tmp_path / "p.parquet"
    for output in (table, told):
        call(capsys, root, "predict", f"run={run_id}", f"input={data / 'images'}", f"output={output}")
    predicted = pd.read_parquet(told)
    assert set(predicted["prediction"]) <= set(NAMES)
    assert {f"p_{name}" for name in NAMES} <= set(predicted)
    assert list(pd.read_csv(table, dtype=str)["prediction"]) == [escaped(name) for name in predicted["prediction"]]

    evaluated, _ = call(capsys, root, "evaluate", f"run={run_id}", "evaluation.bootstrap_draws=100", "--json")
    assert {f"recall/{name}" for name in NAMES} <= set(json.loads(evaluated)["metrics"])

    page = tmp_path / "page.html"
    call(capsys, root, "report", f"run={run_id}", f"output={page}")
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;" in text
    assert ">&lt;b&gt;<" in text or "&lt;b&gt;</" in text

    bundle, other = tmp_path / "run.zip", tmp_path / "other"
    call(capsys, root, "bundle", "export", f"run={run_id}", f"output={bundle}")
    imported, _ = call(capsys, other, "bundle", "import", str(bundle))
    again = find_run(compose(TINY, root=other).project.store, imported.split()[-1])
    assert again.metrics == run.metrics
    check_results(again)
    assert {path.name for path in tmp_path.iterdir()} == {
        "data", "deep", "p.csv", "p.parquet", "p_facts.json", "page.html", "run.zip", "other"
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["project"]


def check_results(run):
    """Every class has its own figures, and none has those of another or of all together."""
    table = read_predictions(run, "test")
    assert set(table["label"]) == set(NAMES)
    content = json.loads(download_artifact(run, "evaluation/test/metrics.json").read_text())
    for family in ("recall", "precision", "f1", "auroc"):
        logged = {name: run.metrics.get(allowed_name(f"test/{family}/{name}")) for name in NAMES}
        wanted = {name: content[f"{family}/{name}"]["value"] for name in NAMES}
        assert logged == pytest.approx({name: value for name, value in wanted.items() if value is not None})
    recalls = table["label"].eq(table[[f"p_{name}" for name in NAMES]].idxmax(axis=1).str.removeprefix("p_"))
    by_class = recalls.groupby(table["label"]).mean()
    for name in NAMES:
        assert run.metrics[allowed_name(f"test/recall/{name}")] == pytest.approx(by_class[name])
    assert run.metrics["test/balanced_accuracy"] == pytest.approx(by_class.mean())
    confusion = json.loads(download_artifact(run, "confusion_matrix/test.json").read_text())
    assert set(confusion["classes"]) == set(NAMES)

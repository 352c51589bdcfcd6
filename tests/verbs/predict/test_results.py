import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from lesion_exp.model.predictor import Predicted
from lesion_exp.shown import ShownPredictions
from lesion_exp.verbs.predict.plan import DONE_FILE, PLAN_FILE, PredictionPlan
from lesion_exp.verbs.predict.results import METADATA_KEY, Results
from tests.dying import count_operations, die_at


def results_in(folder: Path, suffix: str = ".csv") -> Results:
    """Results of three images in two batches, joined into their output."""
    output = folder / f"out{suffix}"
    config = {"evaluation": {"tta": "none"}, "trainer": {"precision": "32-true"}}
    plan = PredictionPlan("a" * 32, "c", "w", config, None, "images", "d", str(output), 0, None, 2, 0, 1)
    images = pd.DataFrame({"image": ["a", "b", "c"]})
    results = Results(folder / f"{output.name}.part", plan, len(images))
    plan.write(results.folder, images)
    for number, names in enumerate((["a", "b"], ["c"])):
        table = pd.DataFrame({"image": names, "prediction": "nv", "p_nv": 1.0, "error": None})
        results.add(number, Predicted(table, None))
    return results


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_killed_while_it_tidies_up_leaves_a_folder_that_says_so(tmp_path: Path, how: signal.Signals) -> None:
    def make(name: str) -> Results:
        (tmp_path / name).mkdir()
        results = results_in(tmp_path / name)
        results.join()
        return results

    whole = make("whole")
    operations = count_operations(whole.finish, whole.folder.parent)
    assert operations >= 5
    for number in range(1, operations + 1):
        results = make(str(number))
        assert die_at(number, results.finish, results.folder.parent, how) != 0
        left = {path.name for path in results.folder.iterdir()}
        assert not left or {PLAN_FILE, DONE_FILE} & left, number
        assert not results.missing() or PLAN_FILE not in left, "what is lost would be predicted again"
        if left:
            assert results.are_whole == (DONE_FILE in left)
            results.finish()
            assert not results.folder.exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_whole_is_read_back(tmp_path: Path, suffix: str) -> None:
    results = results_in(tmp_path, suffix)
    table = results.join()
    pd.testing.assert_frame_equal(
        results.read()[["image", "prediction"]], table[["image", "prediction"]], check_dtype=False
    )
    assert results.read()["error"].isna().all()
    rows = {"image": ["x", "y"], "prediction": ["NA", None], "p_NA": [0.75, None], "error": [None, "no image"]}
    results.add(0, Predicted(pd.DataFrame(rows).astype({"p_NA": "float32"}), None))
    results.add(1, Predicted(pd.DataFrame(rows).astype({"p_NA": "float32"})[:1], None))
    results.join()
    again = results.read()
    assert again["prediction"].fillna("none").tolist() == ["NA", "none", "NA"], "a class may be called NA"
    assert again["p_NA"].fillna(-1).tolist() == [0.75, -1, 0.75]
    numbered = pd.DataFrame({"image": ["007", "8"], "prediction": ["1", None], "error": [None, "no image"]})
    results.add(0, Predicted(numbered.assign(p_1=0.75), None))
    results.add(1, Predicted(numbered.assign(p_1=0.75)[:1], None))
    results.join()
    assert results.read()["image"].tolist() == ["007", "8", "007"]
    assert results.read()["prediction"].fillna("none").tolist() == ["1", "none", "1"], "pseudo-labels are made of it"
    odd = pd.DataFrame({"image": ["=1+1", "007"], "prediction": ["null", "1"], "top1": ["null", "1"], "error": None})
    results.add(0, Predicted(odd.assign(p_1=0.75), None))
    results.add(1, Predicted(odd.assign(p_1=0.75)[:1], None))
    results.join()
    shown = ShownPredictions(SimpleNamespace(output=results.plan.output)).table
    for name in ("image", "prediction", "top1"):
        assert shown[name].tolist() == [*odd[name], odd[name][0]], "as the texts that were written"
    assert shown["p_1"].tolist() == [0.75] * 3
    if suffix == ".parquet":
        said = json.loads(pq.read_schema(results.plan.output).metadata[METADATA_KEY.encode()])
        assert said == results.plan.facts
        assert (said["calibration"], said["precision"], said["tta"]) == ("none", "32-true", "none")

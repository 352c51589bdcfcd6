import importlib
import json
import random
import sys
from pathlib import Path

import pytest

import lesion_exp
from lesion_exp.config.compose import compose
from tests.tiny import TINY

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("results", "plan_against_draws"):
        sys.modules.pop(name, None)
    return importlib.import_module("plan_against_draws")


def test_a_seed_decides_on_the_draws_and_all_choices_are_valid(script, tmp_path):
    first, second, other = ([script.draw(generator) for _ in range(12)] for generator in map(random.Random, (0, 0, 1)))
    assert first == second != other
    for candidate, words in first:
        config = compose(["dataset=synthetic", *words], config_dirs=(), root=tmp_path).config
        assert config["image_size"] == candidate.image_size
        assert config["backbone"]["tune"] == candidate.tune
        assert 1e-4 <= config["optimizer"]["lr"] <= 1e-2
    generator = random.Random(2)
    drawn = {word for _ in range(60) for word in script.draw(generator)[1]}
    assert {word for options in script.SPACE.values() for option in options for word in option} <= drawn


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_plan_is_compared_with_the_draws_that_are_best_on_validation(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rates = (1e-2, 1e-3, 1e-4)
    jobs = [[*TINY, "trainer.max_epochs=1", f"optimizer.lr={rate}", f"tracking.run_name=run {rate}"] for rate in rates]
    kept = {"expected_minutes": 0.1, "plan": jobs[0], "network": "a network", "draws": jobs[1:]}
    (tmp_path / "draws.json").write_text(json.dumps(kept))
    trained = []
    monkeypatch.setattr(script, "train", lambda words: trained.append(lesion_exp.run(*words).run_id))

    assert script.prepared(tmp_path, (), 1.0, 2, 0) == kept
    script.train_all(tmp_path, kept)
    script.train_all(tmp_path, kept)
    assert len(trained) == 3, "what is trained is not trained again"
    found = script.trained(tmp_path, kept)
    assert found[0].run_id == trained[0]
    assert [one.val for one in found[1:]] == sorted((one.val for one in found[1:]), reverse=True)

    text = script.page(found, kept)
    better = sum(one.test > found[0].test for one in found[1:])
    assert f"{better} of 2 draws have a higher balanced accuracy" in text
    row = next(line for line in text.splitlines() if line.startswith(f"| {found[1].name}"))
    report = lesion_exp.compare(found[0].run_id, found[1].run_id, part="test").report.to_dict()
    pair = report["pairs"][0]["differences"]["balanced_accuracy"]
    sign = 1 if report["pairs"][0]["first"] == report["jobs"][0]["letter"] else -1
    assert report["jobs"][0]["runs"] == [trained[0]]
    assert f"{sign * pair['difference']:+z.3f}" in row

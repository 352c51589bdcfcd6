"""The verb `plan` on generated lesions: what it reads, writes and refuses, and a training by it."""

import json
from dataclasses import replace

import pytest
import yaml
from omegaconf import OmegaConf

import lesion_exp
from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.data.store import ImageStore
from lesion_exp.verbs.plan import facts
from lesion_exp.verbs.plan import plan as room
from lesion_exp.verbs.plan.candidate import Choice
from lesion_exp.verbs.plan.preset import preset_text
from lesion_exp.verbs.plan.request import PlanRequest

SET = (
    "dataset=synthetic",
    "dataset.num_lesions=60",
    "dataset.class_shares={mel: 1, nv: 2}",
    "dataset.image_height=48",
    "dataset.image_width=64",
    "trainer=cpu",
    "trainer.precision=32-true",
)


@pytest.fixture
def project(root, own_process, monkeypatch):
    """A project on a quiet machine without ImageNet weights, on which measurements are short."""
    machine = room.this_machine
    monkeypatch.chdir(root)
    monkeypatch.setattr(facts, "PROBE_SECONDS", 0.0001)
    monkeypatch.setattr(room, "LONGEST_MEASUREMENT", 0.05)
    monkeypatch.setattr(room, "has_packaged", lambda *names: False)
    monkeypatch.setattr(room, "this_machine", lambda trainer: replace(machine(trainer), slowdown=1.0))
    return root


def made(project, *overrides, **request):
    return room.make_plan([*SET, *overrides], PlanRequest(**request), root=project)


def mistake(capsys, *words):
    assert main(["plan", *SET, *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return " ".join(shown.err.split())


def test_the_preset_makes_the_choices_and_names_a_reason_for_each(project, capsys):
    words = ["seed=3", "task.target=malignant", "hours=5", "output=mine"]
    assert main(["plan", *SET, *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    file = project / "mine" / "experiment" / "plan.yaml"
    assert found["file"] == "mine/experiment/plan.yaml"
    assert found["command"] == "lesion-exp train --config-dir mine experiment=plan"
    config = compose(["experiment=plan"], config_dirs=[project / "mine"], root=project)
    for choice in found["choices"]:
        if choice["key"].startswith("search.space"):
            assert config.search["space"] == {"split": {"fold": choice["value"]}}
        elif choice["key"] in config.options:
            assert config.options[choice["key"]] == choice["value"]
        else:
            node = config.config
            for part in choice["key"].split("."):
                node = node[part]
            assert node == choice["value"]
    given = {choice["key"] for choice in found["choices"] if choice["reason"] == room.GIVEN}
    assert given == {word.partition("=")[0] for word in (*SET, *words[:2])}
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    body = lines[lines.index("defaults:") + 1 :]
    assert all("  # " in line for line in body if not line.rstrip().endswith(":") and "num_folds" not in line)
    assert max(map(len, lines)) <= 200
    assert found["facts"]["masks"] == 1.0
    assert any(offer.startswith("dataset.mask=crop") for offer in found["offers"])
    assert sum(found["facts"]["parts"].values()) == found["facts"]["images"]
    assert sum(found["seconds"].values()) == pytest.approx(found["expected_seconds"], abs=0.5)
    assert found["expected_seconds"] <= found["budget_seconds"]


def test_no_pixel_and_no_file_of_a_test_image_is_read_for_a_decision(project, monkeypatch):
    table = lesion_exp.prepare(*SET, "dataset.store_size=160").table  # builds the store that the plan will read
    test = table[table["split"] == "test"]
    read, headers = set(), set()
    store_read, size_of = ImageStore.read, facts.file_and_image_size

    def watched(store, row, plane="pixels"):
        read.add(str(store.image_ids[row]))
        return store_read(store, row, plane)

    def watched_header(locator):
        headers.add(locator)
        return size_of(locator)

    monkeypatch.setattr(ImageStore, "read", watched)
    monkeypatch.setattr(facts, "file_and_image_size", watched_header)
    plan = made(project)
    assert Choice("dataset.store_size", 160) in [replace(choice, reason="") for choice in plan.choices]
    assert len(test) > 5
    assert read
    assert not read & set(test["image_id"])
    assert headers
    assert not headers & set(test["image_path"])


def test_the_facts_need_no_file_of_a_test_image(project):
    split = lesion_exp.prepare(*SET).prepared.split
    config = compose([*SET], root=project).config
    seen = facts.data_facts(config, split, "grouped")
    is_test = split.table["split"] == "test"
    other = split.table.assign(image_path=split.table["image_path"].mask(is_test, "/nowhere.png"))
    assert facts.data_facts(config, replace(split, table=other), "grouped") == seen


def test_keys_that_the_plan_chooses_and_plans_that_exist_are_refused(project, capsys):
    for word in ("backbone=resnet50", "image_size=64", "trainer.max_epochs=3", "loader.batch_size=8", "~split"):
        assert f"got {word}" in mistake(capsys, word)
    (project / "plan" / "experiment").mkdir(parents=True)
    (project / "plan" / "experiment" / "plan.yaml").write_text("mine")
    assert "set force=true, or another output=" in mistake(capsys)
    assert "hours to be a number above 0" in mistake(capsys, "hours=0")
    assert main(["plan", *SET, "force=true"]) == 0
    assert "trainer" in yaml.safe_load((project / "plan" / "experiment" / "plan.yaml").read_text())


def test_a_budget_that_is_too_small_is_answered_with_one_that_is_not(project, capsys):
    told = mistake(capsys, "hours=0.001")
    assert "expected hours= of at least 0." in told
    assert not (project / "plan").exists()
    least = told.partition("set hours=")[2].partition(",")[0]
    assert main(["plan", *SET, f"hours={2 * float(least):g}"]) == 0  # speeds vary


@pytest.mark.parametrize(
    "word", ["split=grouped", "split.ratios={train: 0.6, val: 0.2, test: 0.2}", "split.ratios.test=0.15"]
)
def test_a_split_that_is_given_is_kept_and_the_preset_trains_with_it(project, word):
    assert made(project, hours=5).decision.folds > 1
    plan = made(project, word, hours=5, force=True)  # which composes and checks the preset
    key = word.partition("=")[0]
    assert plan.decision.folds == 1
    assert [each.key for each in plan.choices if each.key.startswith("split")] == [key]
    config = compose(["experiment=plan"], config_dirs=[project / "plan"], root=project)
    assert config.options["split"] == "grouped"
    assert config.config["split"]["ratios"] == compose([word], root=project).config["split"]["ratios"]


def test_another_key_of_the_split_leaves_the_folds(project):
    plan = made(project, "split.seed=3", hours=5)
    assert plan.decision.folds > 1
    assert ("split.seed", 3) in [(each.key, each.value) for each in plan.choices]


def test_one_class_is_refused_as_in_training(project, capsys):
    assert "at least two classes" in mistake(capsys, "dataset.filter=\"label == 'nv'\"")


def test_a_set_without_lesions_and_metadata_gets_a_plan(project):
    folder = project / "photographs"
    source = lesion_exp.prepare(*SET).table
    for row in source.itertuples():
        (folder / row.label).mkdir(parents=True, exist_ok=True)
        (folder / row.label / f"{row.image_id}.png").symlink_to(row.image_path)
    words = ["dataset=folder", f"dataset.root={folder}", "trainer=cpu", "trainer.precision=32-true"]
    plan = room.make_plan(words, PlanRequest(hours=5), root=project)
    found = plan.situation.facts
    assert (found.lesions, found.patients, found.masks) == (None, None, 0.0)
    assert found.missing == {"age": 1.0, "sex": 1.0, "site": 1.0}
    assert plan.decision.offers == ()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_mapping_and_one_of_its_keys_are_one_choice(tmp_path, swapped):
    words = ["split.ratios={train: 0.7, val: 0.15, test: 0.15}", "split.ratios.train=0.7"]
    words = words[::-1] if swapped else words
    given = compose([*SET, *words], root=tmp_path)
    own = [each for each in room._user_choices(words, given) if each.key.startswith("split")]
    assert [(each.key, each.value) for each in own] == [("split.ratios", given.config["split"]["ratios"])]
    tree = OmegaConf.create(preset_text(["title"], own))
    assert OmegaConf.to_container(tree)["split"] == {"ratios": given.config["split"]["ratios"]}


def test_texts_that_yaml_reads_otherwise_are_quoted():
    numbers = ["1e3", "1e5", "1_0", "1:30", "nan", "0x1F"]
    others = ["no", "a:", "x: y", "a # b", "last:4", "plain", "", "ä", None, True, 0.1, [1, "no"], {"a": "b c"}]
    values = [*numbers, *others]
    text = preset_text(["title"], [Choice(f"node.k{i}", value, "why") for i, value in enumerate(values)])
    assert list(OmegaConf.create(text)["node"].values()) == values
    assert list(yaml.safe_load(text)["node"].values()) == values


@pytest.mark.slow
def test_a_training_by_the_plan_is_an_ordinary_run(project):
    rare = [word.replace("{mel: 1, nv: 2}", "{mel: 1, nv: 19}") for word in SET]  # too few melanomas for folds
    plan = lesion_exp.plan(*rare, hours=5)
    assert repr(plan) == (project / "plan" / "experiment" / "plan.yaml").read_text(encoding="utf-8")
    assert {"key", "value", "reason"} == set(plan.table)
    assert "<table" in plan._repr_html_()
    assert plan.summary["folds"] == 1
    few = ("trainer.max_epochs=1", "~search.space.seed", "evaluation.bootstrap_draws=100", "print_config=false")
    result = lesion_exp.run("experiment=plan", *few, config_dirs=[plan.folder])
    job = lesion_exp.open_run(result.run_id).job
    assert job.config["sampler"]["power"] == 0.5
    assert job.config["backbone"]["weights"] == "none"
    assert job.config["loader"]["batch_size"] == 16
    assert 0 <= result.metrics["test/balanced_accuracy"] <= 1

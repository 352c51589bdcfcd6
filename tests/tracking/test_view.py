import json
from typing import Any

import pytest

from lesion_exp.tracking.store import Store
from lesion_exp.tracking.view import (
    CHOICES_KEY,
    COLUMNS,
    MOST_SWEEP_VIEWS,
    VIEW_KEY,
    VIEWS,
    runs_address,
    surplus_sweeps,
    sweep_view,
    sweep_view_key,
    view_address,
    view_tags,
)


def state_of(text: str) -> dict[str, Any]:
    saved = json.loads(text)
    assert isinstance(saved["name"], str)
    assert isinstance(saved["createdAt"], int)
    found: dict[str, Any] = json.loads(saved["state"])
    return found


@pytest.mark.parametrize("text", [*list(view_tags().values())[1:], sweep_view("sweep of loss", "s1", ["loss"])])
def test_view_is_an_envelope_that_the_page_reads(text: str) -> None:
    state = state_of(text)
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {card["metricSectionId"] for card in state["compareRunCharts"]} == sections
    assert len({card["uuid"] for card in state["compareRunCharts"]}) == len(state["compareRunCharts"])
    assert state["columnOrder"] == list(state["columnWidths"])
    assert set(state["columnOrder"]) > set(state["selectedColumns"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/val/balanced_accuracy`", False)


def test_table_shows_what_was_chosen_and_how_good_it_is_within_a_page_of_1024() -> None:
    state = state_of(view_tags()[f"{VIEWS}{VIEW_KEY}"])
    assert state["selectedColumns"] == list(COLUMNS)
    wanted = [
        "attributes.`Run Name`", "runDateAndNestInfo", "params.`backbone`", "params.`loss`", "params.`optimizer.lr`",
        "params.`seed`", "tags.`val`", "tags.`test`", "tags.`leaks`",
    ]  # fmt: skip
    assert state["columnOrder"][: len(wanted)] == wanted
    # beside the sidebar and margins the page leaves 780 of 1024 pixels, of which check boxes take 73
    assert sum(state["columnWidths"][name] for name in wanted[:-1]) <= 780 - 73


def test_filter_leaves_previews_and_comparisons_out_of_what_the_store_finds(store: Store) -> None:
    experiment = store.experiment_id("tests")
    kinds = ("train", "sweep", "ensemble", "soup", "preview", "comparison")
    for kind in kinds:
        run = store.client.create_run(experiment, tags={"kind": kind})
        store.client.log_metric(run.info.run_id, "best/val/balanced_accuracy", kinds.index(kind) / 10)
    state = state_of(store.client.get_experiment(experiment).tags[f"{VIEWS}{VIEW_KEY}"])
    order = [f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"]
    found = store.client.search_runs([experiment], state["searchFilter"], order_by=order)
    assert [run.data.tags["kind"] for run in found] == ["soup", "ensemble", "sweep", "train"]
    choices = state_of(store.client.get_experiment(experiment).tags[f"{VIEWS}{CHOICES_KEY}"])
    cell = store.client.create_run(experiment, tags={"kind": "train", "choice": "loss=focal", "sweep_id": "s1"})
    for filtered in (choices["searchFilter"], state_of(sweep_view("sweep", "s1", ["loss"]))["searchFilter"]):
        (only,) = store.client.search_runs([experiment], filtered)
        assert only.info.run_id == cell.info.run_id


@pytest.mark.parametrize("count", [2, 6])
def test_parallel_coordinates_of_a_sweep_have_an_axis_for_each_choice_and_the_whole_width(count: int) -> None:
    keys = ["loss", "sampler", "optimizer.lr", "backbone", "augmentation", "image_size"][:count]
    state = state_of(sweep_view("sweep", "s1", keys))
    (chart,) = [card for card in state["compareRunCharts"] if card["type"] == "PARALLEL"]
    assert chart["selectedParams"] == keys
    (section,) = [one for one in state["compareRunSections"] if one["uuid"] == chart["metricSectionId"]]
    assert section["columns"] == 1
    assert state["compareRunSections"][0] == section
    assert state["selectedColumns"][:count] == [f"params.`{key}`" for key in keys]


def test_experiment_made_elsewhere_gets_the_view_but_keeps_one_of_its_own(store: Store) -> None:
    own = {f"{VIEWS}{VIEW_KEY}": "mine"}
    bare, viewed = store.client.create_experiment("bare"), store.client.create_experiment("viewed", tags=own)
    assert store.experiment_id("bare") == bare
    assert store.client.get_experiment(bare).tags.keys() >= view_tags().keys()
    assert store.experiment_id("viewed") == viewed
    assert store.client.get_experiment(viewed).tags.items() >= own.items()


def test_view_of_an_earlier_version_is_renewed_unless_somebody_saved_it_anew() -> None:
    tag = f"{VIEWS}{VIEW_KEY}"
    earlier = {"name": "Results", "createdAt": 5, "updatedAt": 5, "state": json.dumps({"selectedColumns": []})}
    assert tag in view_tags({tag: json.dumps(earlier)})
    assert tag not in view_tags({tag: json.dumps({**earlier, "updatedAt": 6})})
    assert view_tags(view_tags()) == {}


def test_address_opens_the_view_in_the_mode_for_trained_models() -> None:
    address = "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"
    assert runs_address("http://127.0.0.1:5000", "7") == address
    assert view_address("http://127.0.0.1:5000", "7") == f"{address}&viewStateShareKey=lesion-exp"


def test_of_many_views_of_sweeps_the_oldest_are_too_many_unless_somebody_saved_them_anew() -> None:
    ids = [f"20260101-0000{number:02d}-abcd" for number in range(MOST_SWEEP_VIEWS + 3)]
    tags = {f"{VIEWS}{sweep_view_key(sweep_id)}": sweep_view("a sweep", sweep_id, ["loss"]) for sweep_id in ids}
    assert surplus_sweeps({**view_tags(), **tags}) == ids[:3]
    assert surplus_sweeps(dict(list(tags.items())[3:])) == []
    saved = f"{VIEWS}{sweep_view_key(ids[1])}"
    body = json.loads(tags[saved])
    tags[saved] = json.dumps({**body, "updatedAt": body["createdAt"] + 1})
    assert surplus_sweeps(tags) == [ids[0], ids[2]]

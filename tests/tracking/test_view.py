import json

from lesion_exp.tracking.store import Store
from lesion_exp.tracking.view import COLUMNS, VIEW_KEY, view_address, view_tags


def test_view_is_an_envelope_that_the_page_reads() -> None:
    saved = json.loads(view_tags()[f"mlflow.sharedViewState.{VIEW_KEY}"])
    assert isinstance(saved["name"], str)
    assert isinstance(saved["createdAt"], int)
    state = json.loads(saved["state"])
    assert state["selectedColumns"] == list(COLUMNS)
    (section,) = state["compareRunSections"]
    assert {card["metricSectionId"] for card in state["compareRunCharts"]} == {section["uuid"]}
    assert len({card["uuid"] for card in state["compareRunCharts"]}) == len(state["compareRunCharts"])
    assert set(state["columnOrder"]) == set(state["columnWidths"]) > set(COLUMNS)


def test_experiment_made_elsewhere_gets_the_view_but_keeps_one_of_its_own(store: Store) -> None:
    own = {f"mlflow.sharedViewState.{VIEW_KEY}": "mine"}
    bare, viewed = store.client.create_experiment("bare"), store.client.create_experiment("viewed", tags=own)
    assert store.experiment_id("bare") == bare
    assert store.client.get_experiment(bare).tags.keys() >= view_tags().keys()
    assert store.experiment_id("viewed") == viewed
    assert store.client.get_experiment(viewed).tags.items() >= own.items()


def test_address_opens_the_view_in_the_mode_for_trained_models() -> None:
    assert view_address("http://127.0.0.1:5000", "7") == (
        "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=lesion-exp"
    )

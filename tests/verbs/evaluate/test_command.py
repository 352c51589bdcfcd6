import pytest

from tests.refusal import assert_refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "run="),
        (["run=latest", "seed=1"], "trained with"),
        (["run=latest", "dataset.limit=5"], "dataset=NAME"),
        (["run=latest", "dataset=synthetic", "dataset.mask=crop"], "dataset.mask"),
        (["run=latest", "tta=flip8"], "'flips8'"),
        (["run=latest", "ensemble=means"], "'mean'"),
        (["run=latest", "calibration=platt"], "temperature"),
        (["run=latest", "split.part=train"], "val or test"),
        (["run=latest", "stack=hgb"], "add ensemble=stacked"),
        (["run=[latest,latest]", "ensemble=mean", "stack_features=context"], "add ensemble=stacked"),
        (["run=[latest,latest]", "ensemble=stacked", "stack=xgb"], "'hgb'"),
        (["run=[latest,latest]", "ensemble=stacked", "stack_features=[predictions,contexts]"], "'context'"),
        (["run=[latest,latest]", "ensemble=stacked", "stack_seed=-1"], "whole number"),
    ],
)
def test_a_mistake_is_one_message_and_2(arguments, said, store, monkeypatch, capsys):
    store.client.create_run(store.experiment_id("tests"))
    monkeypatch.chdir(store.root)
    assert_refused(capsys, ["evaluate", *arguments], said)

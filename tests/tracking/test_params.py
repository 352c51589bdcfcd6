import pytest

from lesion_exp.tracking.params import allowed_name, flat_params


def test_nested_config_is_flat_and_texts_read_as_in_yaml() -> None:
    config = {
        "seed": 1,
        "loss": {"_target_": "a.Loss", "weights": None, "smoothing": 0.1},
        "split": {"ratios": [0.7, 0.15], "leak": False, "none": {}},
    }
    assert flat_params(config) == {
        "seed": "1",
        "loss._target_": "a.Loss",
        "loss.weights": "null",
        "loss.smoothing": "0.1",
        "split.ratios": "[0.7, 0.15]",
        "split.leak": "false",
        "split.none": "{}",
    }


def test_mapping_with_keys_that_mlflow_refuses_is_one_text() -> None:
    assert flat_params({"labels": {"nevus (typical)": "nv", "melanoma": "mel"}}) == {
        "labels": '{"nevus (typical)": "nv", "melanoma": "mel"}'
    }


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("val/balanced_accuracy", "val/balanced_accuracy"),
        ("test/recall/mélanome a:b-1", "test/recall/mélanome a:b-1"),
        ("a(b)", "a_b_"),
        ("test/recall//x", "test/recall/x"),
        ("../x", "x"),
        ("/", "_"),
    ],
)
def test_names_are_what_mlflow_allows(name: str, allowed: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert allowed_name(name) == allowed
    _validate_metric_name(allowed)

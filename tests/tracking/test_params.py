import random

import pytest

from lesion_exp.tracking.params import allowed_name, flat_params, given_name


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


ODD_NAMES = [
    ("val/balanced_accuracy", "val/balanced_accuracy"),
    ("test/recall/mélanome a:b-1", "test/recall/mélanome a:b-1"),
    ("test/recall/dys_low", "test/recall/dys_low"),
    ("test/recall/bcc (-)", "test/recall/bcc _x28_-_x29_"),
    ("test/recall/bcc [-]", "test/recall/bcc _x5b_-_x5d_"),
    ("test/recall/bcc _x28_-_x29_", "test/recall/bcc _x5f_x28_-_x5f_x29_"),
    ("test/recall/bcc __-_", "test/recall/bcc __-_"),
    ("test/recall/a/b", "test/recall/a/b"),
    ("test/recall//x", "test/recall_x2f_/x"),
    ("test/recall/x/", "test/recall/x_x2f_"),
    ("test/recall/.", "test/recall/_x2e_"),
    ("test/recall/..", "test/recall/_x2e__x2e_"),
    ("test/recall/...", "test/recall/..."),
    ("test/recall/.a", "test/recall/.a"),
    ("../x", "_x2e__x2e_/x"),
    ("/", "_x2f_"),
    ("test/recall/\N{COLLISION SYMBOL}=cmd|'x'\n", "test/recall/_x1f4a5__x3d_cmd_x7c__x27_x_x27__xa_"),
]


@pytest.mark.parametrize(("name", "allowed"), ODD_NAMES)
def test_names_are_what_mlflow_allows_and_tell_what_they_were(name: str, allowed: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert allowed_name(name) == allowed
    assert given_name(allowed) == name
    _validate_metric_name(allowed)


def test_no_two_names_become_one() -> None:
    from mlflow.utils.validation import _validate_metric_name

    draw = random.Random(0)
    names = {"".join(draw.choices("_x25f8./( )[]~:", k=draw.randrange(1, 9))) for _ in range(20_000)}
    names |= {f"test/recall/{'long ' * 50}{number}" for number in range(9)} | {f"test/{'(' * 90}{n}" for n in range(9)}
    allowed = {allowed_name(name) for name in names}
    assert len(allowed) == len(names)
    for name in allowed:
        _validate_metric_name(name)
        assert len(name) <= 250

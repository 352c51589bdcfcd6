from lesion_exp.tracking.run_description import (
    artifact_link,
    artifact_picture,
    choice_tags,
    description,
    run_name,
    score_tags,
)

CHOICES = {"dataset": "ham10000", "backbone": "resnet18", "loss": "focal", "sampler": "weighted", "trainer": "cpu"}


def test_name_and_tags_say_what_was_chosen() -> None:
    assert run_name(CHOICES, seed=3) == "ham10000 resnet18 weighted focal s3"
    assert choice_tags(CHOICES) == {
        "dataset": "ham10000",
        "backbone": "resnet18",
        "sampler": "weighted",
        "loss": "focal",
    }


def test_description_has_warning_counts_and_the_test_result_with_its_interval() -> None:
    metrics = {
        "best/val/balanced_accuracy": 0.6,
        "test/balanced_accuracy": 0.5614,
        "test/balanced_accuracy_low": 0.52,
        "test/balanced_accuracy_high": 0.6,
        "test/auroc_macro": 0.92,
    }
    counts = {"train": {"images": 7010, "lesions": 5229}, "test": {"images": 1502}}
    text = description("ResNet-18 on HAM10000", counts, metrics, ["leaky split"])["mlflow.note.content"]
    assert text.split("\n\n") == [
        "**leaky split**",
        "**Test:** balanced accuracy 0.561 (95% interval 0.520 to 0.600), macro AUROC 0.920",
        "ResNet-18 on HAM10000",
        "train 7,010 images, 5,229 lesions; test 1,502 images",
    ]


def test_description_without_a_test_shows_the_best_epoch() -> None:
    text = description("A run", {}, {"best/val/balanced_accuracy": 0.6, "val/balanced_accuracy": 0.1})
    assert text["mlflow.note.content"].startswith("**Validation, best epoch:** balanced accuracy 0.600\n\n")
    assert description("A run", {}, {}) == {"mlflow.note.content": "A run"}


def test_scores_are_rounded_and_a_leak_is_said_only_where_there_is_one() -> None:
    metrics = {"best/val/balanced_accuracy": 0.26785713, "test/balanced_accuracy": 0.5, "test/accuracy": 0.25}
    assert score_tags(metrics, leaky=False) == {"val": "0.268", "test": "0.500"}
    assert score_tags({}, leaky=True) == {"leaks": "yes"}


def test_links_stand_first_and_their_addresses_hold_on_any_server() -> None:
    """Below the second line MLflow's page lays a fading layer over the description, which takes the clicks."""
    picture = artifact_picture("The matrix", "0f0f", "confusion_matrix/test.png")
    assert picture == "![The matrix](get-artifact?path=confusion_matrix%2Ftest.png&run_uuid=0f0f)"
    link = artifact_link("The matrix", "7", "0f0f", "confusion_matrix/test.png")
    assert link == "[The matrix](#/experiments/7/runs/0f0f/artifacts/confusion_matrix/test.png)"
    metrics = {"test/balanced_accuracy": 0.5}
    text = description("A run", {}, metrics, ["a warning"], [link, "[b](c)"])["mlflow.note.content"]
    assert text.split("\n\n") == [f"{link} · [b](c)", "**a warning**", "**Test:** balanced accuracy 0.500", "A run"]

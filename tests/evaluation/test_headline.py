import pytest

from lesion_exp.evaluation.registry import is_metric, only_metrics

METRICS = (
    "best/val/balanced_accuracy", "best/val/recall/mel", "val/loss", "val/auroc_macro", "val/recall/a/b",
    "test/loss", "test/loss_low", "test/accuracy", "test/balanced_accuracy", "test/balanced_accuracy_high",
    "test/f1_macro", "test/auroc_macro", "test/brier", "test/ece", "test/ece_low",
    "test/recall/mel", "test/precision/mel", "test/specificity/mel", "test/f1/mel", "test/auroc/mel",
    "test/recall/malignant", "test/recall/dys_low", "evaluation/ph2/accuracy", "evaluation/ph2/ece_high",
)  # fmt: skip
IN_FILES = (
    "isic/balanced_accuracy", "isic/auc/mel", "calibrated/ece", "calibrated/ece_low", "conformal/lac/coverage",
    "operating/malignant/youden/sensitivity", "test/ece_classwise", "test/average_precision/mel",
    "test/sensitivity_at_90_specificity/mel", "test/unknown/auroc/energy", "val/brier", "val/auroc/mel",
    "evaluation/ph2/recall/mel", "evaluation/ph2/isic/balanced_accuracy",
)  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_contract_these_results_are_metrics_in_mlflow(name: str) -> None:
    assert is_metric(name)


@pytest.mark.parametrize("name", IN_FILES)
def test_contract_these_results_are_in_files_alone(name: str) -> None:
    assert not is_metric(name)


def test_only_metrics_keeps_values_and_order() -> None:
    results = {"test/accuracy": 0.5, "isic/auc/mel": 0.25, "best/val/loss": 0.75}
    assert list(only_metrics(results).items()) == [("test/accuracy", 0.5), ("best/val/loss", 0.75)]

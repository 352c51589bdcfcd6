from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.loss.base import class_weights

COUNTS = [327, 514, 1099, 115, 1113, 6705, 142]


def weights(*args: object, **kwargs: object) -> Tensor:
    found = class_weights(COUNTS, *args, **kwargs)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_none_is_no_weighting() -> None:
    assert class_weights(COUNTS) is None


def test_balanced_is_scikit_learns() -> None:
    labels = np.repeat(np.arange(7), COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(7), y=labels)
    np.testing.assert_allclose(weights("balanced"), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("scheme", "settings"),
    [
        ("balanced", {}),
        ("inverse", {}),
        ("inverse", {"power": 0.5}),
        ("effective_number", {}),
        ("effective_number", {"beta": 0.999}),
    ],
)
def test_the_mean_weight_of_a_training_image_is_1_and_rare_classes_weigh_more(
    scheme: str, settings: dict[str, float]
) -> None:
    found = weights(scheme, **settings).double().numpy()
    assert (found * COUNTS).sum() / sum(COUNTS) == pytest.approx(1, rel=1e-6)
    assert (np.argsort(found) == np.argsort(COUNTS)[::-1]).all()


def test_inverse_ratios_are_those_of_the_counts_to_the_power() -> None:
    found = weights("inverse", power=0.5)
    assert (found[3] / found[5]).item() == pytest.approx((6705 / 115) ** 0.5, rel=1e-6)
    np.testing.assert_allclose(weights("inverse"), weights("balanced"), rtol=1e-6)
    np.testing.assert_allclose(weights("inverse", power=0.0), np.ones(7), rtol=1e-6)


def test_effective_number_ratios_are_those_of_the_formula() -> None:
    found = weights("effective_number", beta=0.999)
    assert (found[3] / found[5]).item() == pytest.approx((1 - 0.999**6705) / (1 - 0.999**115), rel=1e-6)
    np.testing.assert_allclose(weights("effective_number", beta=0.0), np.ones(7), rtol=1e-6)
    np.testing.assert_allclose(weights("effective_number", beta=1 - 1e-12), weights("balanced"), rtol=1e-6)


def test_a_misspelt_scheme_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'balanced'\?"):
        class_weights(COUNTS, "balancd")


def test_a_setting_without_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected loss\.class_weights=inverse beside loss\.power=0.5"):
        class_weights(COUNTS, "balanced", power=0.5)
    with pytest.raises(ConfigError, match=r"expected loss\.class_weights=effective_number beside loss\.beta=0.9"):
        class_weights(COUNTS, "none", beta=0.9)


@pytest.mark.parametrize("beta", [-0.1, 1.0])
def test_a_beta_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(ConfigError, match=r"in \[0, 1\)"):
        class_weights(COUNTS, "effective_number", beta=beta)


def test_a_negative_power_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 0"):
        class_weights(COUNTS, "inverse", power=-1)

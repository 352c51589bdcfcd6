"""Balanced softmax."""

from __future__ import annotations

from collections.abc import Sequence

from lesion_exp.loss.logit_adjusted import LogitAdjusted


class BalancedSoftmax(LogitAdjusted):
    """-log(n_y exp(z_y) / sum_c n_c exp(z_c)), averaged over the batch, with n_c training images of class c.

    It equals the logit-adjusted cross-entropy with tau 1: counts and shares differ by a factor that cancels.
    Source: Ren et al. 2020, arXiv:2007.10740, equation 3.

    Args:
        class_counts: training images of each class, in class order.

    Raises:
        DataError: a class has no training image.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        super().__init__(class_counts, tau=1.0)

"""Batch samplers: the order of an epoch as batches of (epoch, position) for one process of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch.utils.data import Sampler as TorchSampler

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray, Sampler, order_of_epoch


@dataclass(frozen=True)
class Shard:
    """The batches of an epoch for one rank."""

    batches: list[IntArray]
    num_dropped: int
    """Number of positions at the end of the order that no rank gets."""


def shard(
    order: IntArray, num_ranks: int, rank: int, batch_size: int, *, drop_tail: bool, together: int | None = None
) -> Shard:
    """Cuts the order of an epoch into batches, deals them to the ranks in turn, and returns those of `rank`.

    No position goes to two ranks, and the batches of a sampler stay together.

    Args:
        order: positions of the whole epoch, int64 (M,).
        num_ranks: number of processes.
        rank: the process, from 0.
        batch_size: images per batch on each rank.
        drop_tail: if True, every rank gets the same number of full batches, and the rest is dropped; an order that is
            too short for that is one step, in equal parts. If False, nothing is dropped, and the ranks may differ by
            one batch.
        together: with `drop_tail`, the number of batches that are used or dropped together, a multiple of `num_ranks`:
            the number of processes of the job; None: `num_ranks`.

    Raises:
        ConfigError: with `drop_tail`, the order has fewer positions than there are ranks.
    """
    assert 0 <= rank < num_ranks, "a rank beyond the number of ranks"
    starts = range(0, len(order), batch_size)
    batches = [order[start : start + batch_size] for start in starts]
    if not drop_tail:
        return Shard(batches[rank::num_ranks], 0)
    together = num_ranks if together is None else together
    assert together % num_ranks == 0, "some rank would get more batches than another"
    num_steps = len(order) // (batch_size * together)
    if num_steps == 0:
        return _one_step(order, num_ranks, rank, together)
    used = num_steps * together
    return Shard(batches[rank:used:num_ranks], len(order) - used * batch_size)


def _one_step(order: IntArray, num_ranks: int, rank: int, together: int) -> Shard:
    size = len(order) // together
    if size == 0:
        raise ConfigError(
            f"expected at least one training image per epoch for each of {together} processes, got {len(order)}; set "
            f"trainer.devices={max(len(order), 1)} or less, or use more images"
        )
    parts = [order[part * size : (part + 1) * size] for part in range(rank, together, num_ranks)]
    return Shard(parts, len(order) - size * together)


Key = tuple[int, int]


class TrainingBatches(TorchSampler[list[Key]]):
    """The training batches of an epoch. The order depends on (seed, epoch) only, so there is no state to save.

    Args:
        sampler: the order of the images.
        table: the table of the training part.
        batch_size: images per batch on each rank.
        seed: the seed of the run.
        ranks: this rank, and the number of ranks.
        progress: returns, when an epoch begins, its number and how many of its batches were already trained.
        together: see `shard`.
    """

    def __init__(
        self,
        sampler: Sampler,
        table: pd.DataFrame,
        batch_size: int,
        seed: int,
        ranks: tuple[int, int],
        progress: Callable[[], tuple[int, int]],
        together: int | None = None,
    ) -> None:
        self.sampler = sampler
        self.table = table
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.num_ranks = ranks
        self.progress = progress
        self.together = together
        self._num_batches: int | None = None
        self.dropped_tail = 0
        """Number of positions of the last epoch that did not fill a step and were left out."""

    def batches(self, epoch: int) -> list[list[int]]:
        """Returns the positions of every batch of `epoch` on this rank."""
        order = order_of_epoch(self.sampler, self.table, np.random.default_rng([self.seed, epoch]))
        dealt = shard(order, self.num_ranks, self.rank, self.batch_size, drop_tail=True, together=self.together)
        self.dropped_tail = dealt.num_dropped
        return [batch.tolist() for batch in dealt.batches]

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, done = self.progress()
        for batch in self.batches(epoch)[done:]:
            yield [(epoch, position) for position in batch]

    def __len__(self) -> int:
        if self._num_batches is None:
            self._num_batches = len(self.batches(epoch=0))
        return self._num_batches


class EvaluationBatches(TorchSampler[list[Key]]):
    """Batches with every position of a part exactly once over all ranks, in the table's order.

    Args:
        num_images: number of images in the part.
        batch_size: images per batch on each rank.
        ranks: this rank, and the number of ranks.
    """

    def __init__(self, num_images: int, batch_size: int, ranks: tuple[int, int]) -> None:
        rank, num_ranks = ranks
        dealt = shard(np.arange(num_images), num_ranks, rank, batch_size, drop_tail=False)
        self._batches = [[(0, int(position)) for position in batch] for batch in dealt.batches]

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

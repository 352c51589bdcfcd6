"""The order of an epoch as batches of (epoch, position), for one rank of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from torch.utils.data import Sampler as TorchSampler

from lesion_exp.sampler.sampler import Sampler
from lesion_exp.sampler.shard import shard

Key = tuple[int, int]


class TrainingBatches(TorchSampler[list[Key]]):
    """Batches of an epoch; the order is a function of (seed, epoch), so it needs no state.

    `progress` says, whenever an epoch begins, which epoch it is and how many of its batches were already trained.
    """

    def __init__(
        self,
        sampler: Sampler,
        table: pd.DataFrame,
        batch_size: int,
        seed: int,
        ranks: tuple[int, int],
        progress: Callable[[], tuple[int, int]],
    ) -> None:
        self.sampler = sampler
        self.table = table
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.num_ranks = ranks
        self.progress = progress
        self._num_batches: int | None = None
        self.dropped_tail = 0
        """Positions of the last epoch that fill no whole step and are not trained."""

    def batches(self, epoch: int) -> list[list[int]]:
        """The positions of every batch of `epoch` on this rank."""
        order = self.sampler.order(self.table, np.random.default_rng([self.seed, epoch]))
        dealt = shard(order, self.num_ranks, self.rank, self.batch_size, drop_tail=True)
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
    """Every position of a part exactly once over all ranks, in the table's order."""

    def __init__(self, num_images: int, batch_size: int, ranks: tuple[int, int]) -> None:
        rank, num_ranks = ranks
        dealt = shard(np.arange(num_images), num_ranks, rank, batch_size, drop_tail=False)
        self._batches = [[(0, int(position)) for position in batch] for batch in dealt.batches]

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

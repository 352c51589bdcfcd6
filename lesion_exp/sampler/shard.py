"""How the order of an epoch is dealt to the ranks of a distributed run."""

from __future__ import annotations

from dataclasses import dataclass

from lesion_exp.errors import ConfigError
from lesion_exp.sampler.sampler import IntArray


@dataclass(frozen=True)
class Shard:
    """A rank's batches of an epoch."""

    batches: list[IntArray]
    num_dropped: int
    """Positions at the end of the whole order that no rank gets."""


def shard(order: IntArray, num_ranks: int, rank: int, batch_size: int, *, drop_tail: bool) -> Shard:
    """The batches of `rank`: the order is cut into batches, and they go to the ranks in turn.

    No position goes to two ranks, and a batch that a sampler laid out stays one batch. With `drop_tail` every rank gets
    the same number of full batches, and what does not divide is dropped; an order that fills no step of full batches
    is one step, in equal parts. Without `drop_tail` every position goes to some rank and ranks may differ by a batch.

    Raises:
        ConfigError: with `drop_tail`, an order with fewer positions than ranks.
    """
    assert 0 <= rank < num_ranks, "a rank beyond the number of ranks"
    starts = range(0, len(order), batch_size)
    batches = [order[start : start + batch_size] for start in starts]
    if not drop_tail:
        return Shard(batches[rank::num_ranks], 0)
    num_steps = len(order) // (batch_size * num_ranks)
    if num_steps == 0:
        return _one_step(order, num_ranks, rank)
    used = num_steps * num_ranks
    return Shard(batches[rank:used:num_ranks], len(order) - used * batch_size)


def _one_step(order: IntArray, num_ranks: int, rank: int) -> Shard:
    size = len(order) // num_ranks
    if size == 0:
        raise ConfigError(
            f"expected at least one training image an epoch for each of {num_ranks} processes, got {len(order)}; set "
            f"trainer.devices={max(len(order), 1)} or less, or use more images"
        )
    return Shard([order[rank * size : (rank + 1) * size]], len(order) - size * num_ranks)

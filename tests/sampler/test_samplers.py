from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lesion_exp.config.instantiate import instantiate
from lesion_exp.data.batches import shard
from lesion_exp.dataset.table import standardize
from lesion_exp.errors import ConfigError
from lesion_exp.sampler.by_source import BySource
from lesion_exp.sampler.class_balanced_batches import ClassBalancedBatches
from lesion_exp.sampler.oversample import Oversample
from lesion_exp.sampler.sampler import order_of_epoch
from lesion_exp.sampler.shuffle import Shuffle
from lesion_exp.sampler.undersample import Undersample
from lesion_exp.sampler.weighted import Weighted
from lesion_exp.taxonomy import PSEUDO_RUN, PSEUDO_SOURCE

OWN = {"label": ["nv"] * 60 + ["mel"] * 30 + ["df"] * 7, "source": ["a"] * 90 + ["b"] * 7}
TABLE = standardize(pd.DataFrame(OWN).assign(image_id=range(97), lesion_id=[f"L{k % 70}" for k in range(97)]), "a")
TABLE = TABLE.assign(source=OWN["source"], group=TABLE["lesion_id"], split="train")
"""A training table with the columns that one has."""
CONF = Path(__file__).parents[2] / "conf" / "sampler"


def rng(epoch=0):
    return np.random.default_rng([1, epoch])


def labels(order):
    return Counter(TABLE["label"].to_numpy()[order])


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_sampler_gives_valid_positions_as_a_function_of_the_generator(file):
    config = OmegaConf.merge(OmegaConf.create({"loader": {"batch_size": 8}}), {"sampler": OmegaConf.load(file)})
    sampler = instantiate(OmegaConf.to_container(config, resolve=True)["sampler"], "sampler")
    first, again, other = (sampler.order(TABLE, rng(epoch)) for epoch in (0, 0, 1))
    assert first.dtype == np.int64
    assert first.min() >= 0
    assert first.max() < len(TABLE)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(first) == len(other), "the schedule of the learning rate counts the steps of all epochs alike"


def test_shuffle_is_a_permutation():
    assert sorted(Shuffle().order(TABLE, rng())) == list(range(len(TABLE)))


def test_weighted_balances_by_its_power():
    drawn = Weighted(power=1, num_samples=30_000)
    assert all(abs(count / 30_000 - 1 / 3) < 0.02 for count in labels(drawn.order(TABLE, rng())).values())
    natural = labels(Weighted(power=0, num_samples=30_000).order(TABLE, rng()))
    assert natural["df"] / 30_000 == pytest.approx(7 / 97, abs=0.01)


def test_oversample_repeats_small_classes_evenly_and_large_ones_never():
    order = Oversample(samples_per_class=20).order(TABLE, rng())
    assert labels(order) == {"nv": 20, "mel": 20, "df": 20}
    repeats = Counter(order.tolist())
    assert max(repeats[p] for p in range(90)) == 1
    assert {repeats[p] for p in range(90, 97)} == {2, 3}


def test_oversample_without_a_number_takes_the_largest_class():
    assert set(labels(Oversample().order(TABLE, rng())).values()) == {60}


def test_undersample_never_repeats_and_changes_each_epoch():
    order = Undersample().order(TABLE, rng())
    assert labels(order) == {"nv": 7, "mel": 7, "df": 7}
    assert len(set(order)) == len(order)
    assert set(order) != set(Undersample().order(TABLE, rng(1)))


def test_balanced_batches_hold_every_class_equally():
    order = ClassBalancedBatches(batch_size=8).order(TABLE, rng())
    for batch in order.reshape(-1, 8):
        counts = labels(batch)
        assert len(counts) == 3
        assert max(counts.values()) - min(counts.values()) <= 1


def test_by_source_gives_sources_their_shares():
    sources = Counter(TABLE["source"].to_numpy()[BySource(power=1).order(TABLE, rng())])
    assert abs(sources["a"] - sources["b"]) <= 1
    assert Counter(TABLE["source"].to_numpy()[BySource(power=0).order(TABLE, rng())]) == {"a": 90, "b": 7}


def test_by_source_draws_images_of_a_file_of_pseudo_labels_once_and_counts_those_of_the_data_set_to_their_source():
    new = TABLE.head(20).assign(source=PSEUDO_SOURCE)
    table = pd.concat([TABLE.assign(**{PSEUDO_RUN: None}), new.assign(**{PSEUDO_RUN: "r"})], ignore_index=True)
    table.loc[:3, PSEUDO_RUN] = "r"
    order = BySource(power=1).order(table, rng())
    drawn = Counter(table["source"].to_numpy()[order])
    assert len(order) == len(table)
    assert drawn[PSEUDO_SOURCE] == 20
    assert abs(drawn["a"] - drawn["b"]) <= 1
    assert sorted(order[order >= len(TABLE)]) == list(range(len(TABLE), len(table)))


@pytest.mark.parametrize(
    ("sampler", "arguments"),
    [
        (Weighted, {"power": -1}),
        (Weighted, {"num_samples": 0}),
        (Oversample, {"samples_per_class": 0}),
        (Undersample, {"samples_per_class": -3}),
        (BySource, {"power": 2}),
        (ClassBalancedBatches, {"batch_size": 0}),
    ],
)
def test_values_out_of_range_are_refused(sampler, arguments):
    with pytest.raises(ConfigError, match="expected"):
        sampler(**arguments)


@given(tail=st.integers(0, 120), num_ranks=st.integers(1, 5), batch_size=st.integers(1, 17))
def test_training_shards_are_disjoint_and_equally_long(tail, num_ranks, batch_size):
    count = num_ranks * batch_size + tail
    shards = [shard(np.arange(count), num_ranks, rank, batch_size, drop_tail=True) for rank in range(num_ranks)]
    dealt = [p for one in shards for batch in one.batches for p in batch]
    assert len(dealt) == len(set(dealt)) == count - shards[0].num_dropped
    assert len({len(one.batches) for one in shards}) == 1
    assert all(len(batch) == batch_size for one in shards for batch in one.batches)
    assert shards[0].num_dropped < num_ranks * batch_size


@given(count=st.integers(0, 200), num_ranks=st.integers(1, 5), batch_size=st.integers(1, 17))
def test_evaluation_shards_hold_everything_once(count, num_ranks, batch_size):
    shards = [shard(np.arange(count), num_ranks, rank, batch_size, drop_tail=False) for rank in range(num_ranks)]
    assert sorted(p for one in shards for batch in one.batches for p in batch) == list(range(count))


@given(count=st.integers(1, 60), num_ranks=st.integers(1, 5))
def test_an_epoch_that_fills_no_step_is_one_step_in_equal_parts(count, num_ranks):
    if count < num_ranks:
        with pytest.raises(
            ConfigError, match=f"at least one training image .* got {count}; set trainer.devices={count}"
        ):
            shard(np.arange(count), num_ranks, 0, 64, drop_tail=True)
        return
    shards = [shard(np.arange(count), num_ranks, rank, 64, drop_tail=True) for rank in range(num_ranks)]
    assert [len(one.batches) for one in shards] == [1] * num_ranks
    assert {len(one.batches[0]) for one in shards} == {count // num_ranks}
    dealt = [position for one in shards for position in one.batches[0]]
    assert dealt == list(range(count - shards[0].num_dropped))


def test_batches_of_a_layout_stay_whole_and_go_to_the_ranks_in_turn():
    order = ClassBalancedBatches(batch_size=6).order(TABLE, rng())
    whole = [batch.tolist() for batch in order.reshape(-1, 6)]
    dealt = [shard(order, 2, rank, 6, drop_tail=True).batches for rank in range(2)]
    assert [batch.tolist() for batch in dealt[0]] == whole[0::2]
    assert [batch.tolist() for batch in dealt[1]] == whole[1::2]
    assert all(labels(batch) == {"nv": 2, "mel": 2, "df": 2} for rank in dealt for batch in rank)


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6), batch_size=st.integers(1, 12))
def test_balanced_batches_hold_for_any_classes(sizes, batch_size):
    table = pd.DataFrame({"label": np.repeat([f"c{k}" for k in range(len(sizes))], sizes)})
    order = ClassBalancedBatches(batch_size).order(table, rng())
    assert len(order) % batch_size == 0
    for batch in order.reshape(-1, batch_size):
        counts = table["label"].to_numpy()[batch]
        numbers = [int((counts == name).sum()) for name in table["label"].unique()]
        assert max(numbers) - min(numbers) <= 1


@pytest.mark.parametrize(
    "sampler", [Shuffle(), Weighted(), Oversample(), Undersample(), BySource(), ClassBalancedBatches(8)]
)
def test_every_epoch_has_the_same_length(sampler):
    assert len({len(sampler.order(TABLE, rng(epoch))) for epoch in range(4)}) == 1


def test_undersample_with_a_number_keeps_all_of_a_smaller_class():
    assert labels(Undersample(samples_per_class=20).order(TABLE, rng())) == {"nv": 20, "mel": 20, "df": 7}


def test_weighted_by_the_square_root_lies_between():
    drawn = labels(Weighted(power=0.5, num_samples=30_000).order(TABLE, rng()))
    roots = {"nv": 60**0.5, "mel": 30**0.5, "df": 7**0.5}
    for name, root in roots.items():
        assert drawn[name] / 30_000 == pytest.approx(root / sum(roots.values()), abs=0.015)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (None, r"a method order\(table, rng\) for the sampler, got Mine, which has none"),
        (lambda self, table, rng: rng.random(97), r"whole numbers \(M,\) .* got float64 of shape \(97,\); np.arange"),
        (lambda self, table, rng: rng.random(97) > 0.5, r"got bool of shape \(97,\); np.flatnonzero"),
        (lambda self, table, rng: np.zeros((4, 2), int), r"got int64 of shape \(4, 2\)"),
        (lambda self, table, rng: np.zeros(0, int), "with at least one, got int64 of shape"),
        (lambda self, table, rng: table.sample(frac=1), "got DataFrame"),
        (lambda self, table, rng: None, "got NoneType"),
        (lambda self, table, rng: np.arange(5, 102), "from 0 to 96, .* of 97 images, got 5 to 101; .* not its index"),
        (lambda self, table, rng: np.arange(-1, 90), "got -1 to 89"),
    ],
)
def test_what_is_no_order_of_the_table_is_refused(order, says):
    with pytest.raises(ConfigError, match=says):
        order_of_epoch(type("Mine", (), {"order": order})(), TABLE, rng())


def test_a_list_of_positions_is_an_order():
    mine = type("Mine", (), {"order": lambda self, table, rng: [3, 1, 3]})()
    order = order_of_epoch(mine, TABLE, rng())
    assert (order.tolist(), order.dtype) == ([3, 1, 3], np.int64)

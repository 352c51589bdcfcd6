"""A run that goes on with other processes than its job asks for: the same images in each step."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lesion_exp.backbone.backbone import without_running
from lesion_exp.data.batches import TrainingBatches, shard
from lesion_exp.errors import ConfigError
from lesion_exp.sampler.shuffle import Shuffle
from lesion_exp.training import trainer
from lesion_exp.training.layout import as_begun, given_processes, keeps_batches, on_processes
from lesion_exp.training.run_context import NO_CONTEXT, RunContext
from lesion_exp.training.trainer import num_devices_and_nodes


def config(devices=2, nodes=1, batch_size=4, accumulate=1, **trainer):
    node = {"devices": devices, "num_nodes": nodes, "accelerator": "cpu", "strategy": "ddp"}
    return {
        "trainer": {**node, "accumulate_grad_batches": accumulate, **trainer},
        "loader": {"batch_size": batch_size, "evaluation_batch_size": None},
    }


def steps(at_work, num_images, epoch):
    """The positions of each step on all processes, in the order of their ranks."""
    trainer = at_work["trainer"]
    num_ranks, count = trainer["devices"] * trainer["num_nodes"], trainer["accumulate_grad_batches"]
    table = pd.DataFrame({"label": ["a"] * num_images})
    size, together = at_work["loader"]["batch_size"], at_work["loader"].get("together")
    ranks = [
        TrainingBatches(Shuffle(), table, size, 0, (rank, num_ranks), lambda: (0, 0), together).batches(epoch)
        for rank in range(num_ranks)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    begins = range(0, len(ranks[0]), count)
    return [sorted(place for own in ranks for batch in own[i : i + count] for place in batch) for i in begins]


@given(
    wanted=st.integers(1, 6),
    given_=st.integers(1, 12),
    size=st.integers(1, 12),
    accumulate=st.integers(1, 4),
    extra=st.integers(0, 200),
)
def test_each_step_has_the_same_images_on_any_number_of_processes(wanted, given_, size, accumulate, extra):
    job, num_images = config(wanted, 1, size, accumulate), wanted * size + extra
    if wanted % given_ and wanted * size % given_:
        with pytest.raises(ConfigError, match=f"equal parts, got {given_}; start "):
            on_processes(job, (given_, 1))
        return
    at_work = on_processes(job, (given_, 1))
    found = steps(at_work, num_images, 3)
    assert found == steps(job, num_images, 3)
    seen = [place for step in found for place in step]
    assert len(seen) == len(set(seen)) == num_images // (wanted * size) * wanted * size


@given(count=st.integers(4, 40), num_ranks=st.sampled_from([1, 2, 4]))
def test_an_epoch_shorter_than_a_step_has_the_same_images_on_fewer_processes(count, num_ranks):
    def dealt(ranks):
        shards = [shard(np.arange(count), ranks, rank, 11, drop_tail=True, together=4) for rank in range(ranks)]
        return sorted(place for one in shards for batch in one.batches for place in batch)

    assert dealt(num_ranks) == dealt(4)


def test_fewer_processes_get_whole_batches_and_more_get_parts():
    fewer = on_processes(config(4, 1, 8, 3), (1, 2))
    assert (fewer["trainer"]["accumulate_grad_batches"], fewer["loader"]["batch_size"]) == (6, 8)
    assert (fewer["trainer"]["devices"], fewer["trainer"]["num_nodes"]) == (1, 2)
    more = on_processes(config(2, 1, 8), (4, 1))
    assert (more["trainer"]["accumulate_grad_batches"], more["loader"]["batch_size"]) == (1, 4)
    assert more["loader"]["evaluation_batch_size"] == 16  # as with the batches of the job
    assert fewer["loader"]["evaluation_batch_size"] is None  # it is part of the key of cached features
    assert on_processes(config(2), None) == config(2)
    assert on_processes(config(2), (1, 1))["trainer"]["strategy"] == "auto"


@pytest.mark.parametrize(
    ("job", "processes"), [((2, 1), (1, 2)), ((4, 1), (2, 2)), ((2, 2), (4, 1)), ((1, 1), (1, 1)), ((2, 2), (2, 2))]
)
def test_as_many_processes_on_other_machines_get_the_ranks_of_these_machines(job, processes):
    before = config(*job, batch_size=3, accumulate=2, limit_train_batches=5)
    changed = on_processes(before, processes)
    assert num_devices_and_nodes(changed["trainer"]) == processes
    others = {**before["trainer"], "devices": processes[0], "num_nodes": processes[1]}
    assert changed == {**before, "trainer": others}  # nothing but the shape differs
    assert (changed is before) == (job == processes)


def test_devices_that_are_auto_are_those_with_which_the_run_began():
    job = config("auto", accelerator="cpu")  # resolved anew, it would be one process
    begun = as_begun(job, RunContext(begun_devices=4))
    assert on_processes(begun, (1, 1))["trainer"]["accumulate_grad_batches"] == 4
    assert on_processes(begun, (8, 1))["loader"]["batch_size"] == 2
    assert job["trainer"]["devices"] == "auto"
    assert as_begun(job, NO_CONTEXT) is job
    assert as_begun(job, RunContext(begun_devices=1)) is job  # what it is on this machine as well
    assert as_begun(config(2), RunContext(begun_devices=4)) == config(2)  # the job says how many


@pytest.mark.parametrize(("begun", "here", "used"), [(4, 2, 2), (4, 3, 2), (3, 2, 1), (2, 4, 2), (4, 4, 4), (4, 0, 4)])
def test_a_run_with_devices_that_are_auto_goes_on_with_fewer(monkeypatch, begun, here, used):
    monkeypatch.setattr(trainer, "resolve_devices", lambda devices, _: here if devices == "auto" else devices)
    context = RunContext(continues="a" * 32, begun_devices=begun)
    assert given_processes(config("auto"), context, None) == (used, 1)
    at_work = on_processes(as_begun(config("auto"), context), (used, 1))
    assert at_work["trainer"]["accumulate_grad_batches"] * used == begun
    assert given_processes(config(4), context, None) == (4, 1)  # the job says how many


@pytest.mark.parametrize("devices", [4, [0, 1, 2, 3]])
def test_the_number_of_gpus_that_a_refusal_names_can_go_on(monkeypatch, devices):
    monkeypatch.setattr(trainer.torch.cuda, "device_count", lambda: 3)
    node = {**config(devices)["trainer"], "accelerator": "gpu", "compile": "none"}
    with pytest.raises(ConfigError, match=r"this machine has 3 .*resume run=abababab trainer\.devices=2 ") as error:
        trainer.check_devices(node, "ab" * 16)
    assert "trainer=cpu" not in str(error.value)
    trainer.check_devices({**node, **on_processes(config(devices), (2, 1))["trainer"]})
    with pytest.raises(ConfigError, match="trainer=cpu trains without"):
        trainer.check_devices(node)


def test_what_the_tuners_found_is_dealt_to_other_processes():
    job = {**config(1, find_batch_size=True, find_lr=True), "optimizer": {"lr": 0.1}}
    begun = as_begun(job, RunContext(found={"batch_size": "64.0", "lr": "0.02"}))
    changed = on_processes(begun, (2, 1))
    assert (changed["loader"]["batch_size"], changed["optimizer"]["lr"]) == (32, 0.02)
    assert not changed["trainer"]["find_batch_size"]
    assert not changed["trainer"]["find_lr"]
    fixed = {**config(1, find_batch_size=False, find_lr=False), "optimizer": {"lr": 0.1}}
    assert as_begun(fixed, RunContext(found={"batch_size": "64.0"})) is fixed


def test_images_that_are_compared_stay_together():
    synchronised = config(4, 1, 8, sync_batchnorm=True)
    assert not keeps_batches(synchronised, 2)
    assert on_processes(synchronised, (2, 1))["loader"]["batch_size"] == 16
    pretraining = {**config(4, 1, 8), "pretrain": {"_target_": "x"}}
    assert on_processes(pretraining, (2, 1))["loader"]["batch_size"] == 16


@pytest.mark.parametrize("key", ["limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval"])
@pytest.mark.parametrize("value", [1, 3, 0.5])
def test_keys_that_count_batches_of_a_process_keep_its_number(key, value):
    with pytest.raises(ConfigError, match=f"trainer.{key}={value} counts the batches of a process"):
        on_processes(config(2, **{key: value}), (1, 1))
    on_processes(config(2, **{key: 1.0}), (1, 1))


def test_running_statistics_are_left_as_they_are():
    norm = torch.nn.BatchNorm2d(3)
    norm(torch.randn(4, 3, 2, 2))
    before = {name: values.clone() for name, values in norm.state_dict().items()}
    with without_running(torch.nn.Sequential(norm)):
        changed = norm(torch.randn(4, 3, 2, 2) + 5)
    assert changed.mean().abs() < 1e-5  # by the statistics of the batch
    assert all(torch.equal(values, before[name]) for name, values in norm.state_dict().items())
    assert norm.momentum == 0.1


@pytest.mark.parametrize(("world_size", "rank"), [(1, 0), (2, 0), (2, 1), (4, 3)])
def test_a_batch_keeps_its_place_among_those_of_the_job(world_size, rank):
    from types import SimpleNamespace

    from lesion_exp.task import NetworkTask

    task = SimpleNamespace(job_processes=4, trainer=SimpleNamespace(world_size=world_size), global_rank=rank)
    places = [NetworkTask._place(task, index) for index in range(4 // world_size)]
    assert [own for _, own in places] == list(range(rank, 4, world_size))
    assert {index for index, _ in places} == {0}
    assert NetworkTask.batches_per_batch.fget(task) == Fraction(4, world_size)

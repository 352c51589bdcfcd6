"""The batches of a run that goes on with another number of processes than its job asks for.

A job asks for J processes (`trainer.devices` on each of `trainer.num_nodes` machines), batches of B images
(`loader.batch_size`) and steps of A batches (`trainer.accumulate_grad_batches`): J x A x B images a step. On W
processes the steps consist of the same images:

- W divides J: each process gets the batches of J / W of the job's processes, and accumulates as many more. Each batch
  has the images, the random numbers and the statistics of batch normalisation that it had.
- otherwise: each batch of J x B images is dealt to W processes in equal parts of J x B / W. What is computed over the
  images of one process differs: batch normalisation, random numbers of dropout and mixing, means with weights.

In a pretraining, whose losses compare the images of all processes, and with `trainer.sync_batchnorm`, it is always the
second, in which the images that are seen at once stay together.

Where `trainer.devices` is `auto` or -1, J is the number of processes with which the run began.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.process.distributed_environment import RankGroup
from lesion_exp.training.data import is_pretraining
from lesion_exp.training.run_context import RunContext
from lesion_exp.training.trainer import fitting_devices, num_devices_and_nodes, num_processes

BATCHES: Final = ("limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval")
"""Keys that count the batches of a process, or are a share of them."""
FINDERS: Final = (("find_batch_size", "loader", "batch_size"), ("find_lr", "optimizer", "lr"))
"""The keys of `trainer` that search for a value, and the node and the key that get it."""


def as_begun(config: Mapping[str, Any], context: RunContext) -> Mapping[str, Any]:
    """The config of a whole job with what its run resolved when it began, which another machine would resolve anew.

    That is the number of devices for `trainer.devices=auto`, and the values that Lightning's tuners found.
    """
    config, devices = with_found(config, context.found), context.begun_devices
    node = config["trainer"]
    if devices is None or node["devices"] not in ("auto", -1) or num_devices_and_nodes(node)[0] == devices:
        return config
    return {**config, "trainer": {**node, "devices": devices}}


def wanted_processes(config: Mapping[str, Any], context: RunContext) -> tuple[int, int]:
    """Returns the processes on each machine, and the machines, of a run of the whole job `config` without a starter.

    Where `trainer.devices` is auto and this machine has fewer devices than the run had when it began, each process gets
    the batches of several of the earlier ones.
    """
    if context.processes is not None:
        return context.processes
    devices, nodes = num_devices_and_nodes(as_begun(config, context)["trainer"])
    return fitting_devices(devices, num_devices_and_nodes(config["trainer"])[0]), nodes


def given_processes(config: Mapping[str, Any], context: RunContext, group: RankGroup | None) -> tuple[int, int] | None:
    """Returns the processes on each machine, and the machines, of a run in `group`; None for those of its job.

    Raises:
        ConfigError: the user has chosen others than the starter has begun.
    """
    if group is None:
        return wanted_processes(config, context)
    if context.processes is not None:
        group.check_chosen(context.processes)
    return None if context.continues is None else group.check_even()


def with_found(config: Mapping[str, Any], found: Mapping[str, str]) -> Mapping[str, Any]:
    """`config` with the values that tuners `found`, by the names `batch_size` and `lr`, in the place of a search."""
    changed: dict[str, Any] = dict(config)
    for finder, node, name in FINDERS:
        if name in found and config["trainer"].get(finder):
            value = float(found[name])
            changed["trainer"] = {**changed["trainer"], finder: False}
            changed[node] = {**changed[node], name: int(value) if name == "batch_size" else value}
    return changed if changed != config else config


def on_processes(config: Mapping[str, Any], processes: tuple[int, int] | None) -> Mapping[str, Any]:
    """The config of a whole job, changed so that its steps have the same images on other processes.

    Args:
        config: of a whole job, see `as_begun`.
        processes: processes on each machine, and machines; None: those that the job asks for.

    Raises:
        ConfigError: a step cannot be dealt to so many processes.
    """
    node = config["trainer"]
    if processes is None or tuple(processes) == num_devices_and_nodes(node):
        return config
    wanted, given = num_processes(node), processes[0] * processes[1]
    changed = copy.deepcopy(dict(config))
    trainer, loader = changed["trainer"], changed["loader"]
    trainer["devices"], trainer["num_nodes"] = processes
    if wanted == given:  # on other machines: only the global ranks are counted otherwise
        return changed
    _check_counts(node)
    size = int(config["loader"]["batch_size"])
    if given == 1:
        trainer["strategy"] = "auto"
    if keeps_batches(config, given):
        trainer["accumulate_grad_batches"] = int(node["accumulate_grad_batches"]) * wanted // given
        loader["together"] = wanted
    elif wanted * size % given == 0:
        loader["batch_size"] = wanted * size // given
        loader["evaluation_batch_size"] = loader["evaluation_batch_size"] or 2 * size  # as the job would evaluate
    else:
        raise ConfigError(
            f"expected a number of processes to which the {wanted} x {size} images that the job takes at once can be "
            f"dealt in equal parts, got {given}; start {_possible(wanted * size, given)}, with "
            f"trainer.devices= or torchrun"
        )
    return changed


def keeps_batches(config: Mapping[str, Any], num_given: int) -> bool:
    """Whether each batch of the job is a batch of one process, too, where the run has `num_given` of them."""
    as_one = is_pretraining(config) or bool(config["trainer"].get("sync_batchnorm"))
    return num_processes(config["trainer"]) % num_given == 0 and not as_one


def in_words(config: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """What differs between the config of a job and that on the processes which it has."""
    before, after = (
        f"{num_processes(one['trainer'])} processes x {one['loader']['batch_size']} images x "
        f"{one['trainer']['accumulate_grad_batches']} batches a step"
        for one in (config, changed)
    )
    return f"the job asks for {before}; the run goes on with {after}, which are the same images in each step"


def _check_counts(node: Mapping[str, Any]) -> None:
    given = [key for key in BATCHES if node.get(key) not in (None, 0.0, 1.0) or type(node.get(key)) is int]
    if given:
        raise ConfigError(
            f"expected the {num_processes(node)} processes that the job asks for, since trainer.{given[0]}="
            f"{node[given[0]]} counts the batches of a process; start as many, with trainer.devices= or torchrun, or "
            f"train anew without that key"
        )


def _possible(images: int, near: int) -> str:
    fitting = [number for number in range(1, images + 1) if images % number == 0]
    below, above = ([n for n in fitting if n < near], [n for n in fitting if n > near])
    return " or ".join(str(number) for number in (*below[-1:], *above[:1]))

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
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.training.data import is_pretraining
from lesion_exp.training.trainer import num_processes

BATCHES: Final = ("limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval")
"""Keys that count the batches of a process, or are a share of them."""


def on_processes(config: Mapping[str, Any], processes: tuple[int, int] | None) -> Mapping[str, Any]:
    """The config of a whole job, changed so that its steps have the same images on other processes.

    Args:
        config: of a whole job.
        processes: processes on each machine, and machines; None: those that the job asks for.

    Raises:
        ConfigError: a step cannot be dealt to so many processes.
    """
    wanted, given = num_processes(config["trainer"]), 1
    for number in processes or (wanted, 1):
        given *= number
    if processes is None or wanted == given:
        return config
    node = config["trainer"]
    _check_counts(node)
    size = int(config["loader"]["batch_size"])
    changed = copy.deepcopy(dict(config))
    trainer, loader = changed["trainer"], changed["loader"]
    trainer["devices"], trainer["num_nodes"] = processes
    if given == 1:
        trainer["strategy"] = "auto"
    loader["evaluation_batch_size"] = loader["evaluation_batch_size"] or 2 * size
    if keeps_batches(config, given):
        trainer["accumulate_grad_batches"] = int(node["accumulate_grad_batches"]) * wanted // given
        loader["together"] = wanted
    elif wanted * size % given == 0:
        loader["batch_size"] = wanted * size // given
    else:
        raise ConfigError(
            f"expected a number of processes to which the {wanted} x {size} images that the job takes at once can be "
            f"dealt in equal parts, got {given}; start {_possible(wanted * size, given)}"
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
            f"{node[given[0]]} counts the batches of a process; start as many, or train anew without that key"
        )


def _possible(images: int, near: int) -> str:
    fitting = [number for number in range(1, images + 1) if images % number == 0]
    below, above = ([n for n in fitting if n < near], [n for n in fitting if n > near])
    return " or ".join(str(number) for number in (*below[-1:], *above[:1]))

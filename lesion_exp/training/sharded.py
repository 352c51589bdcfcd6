"""Fully sharded data parallelism (FSDP2): the processes of a run divide weights, gradients and optimizer among them.

Each process holds an equal part of every tensor. The weights of a block are gathered when it computes, and freed
afterwards. Checkpoints are those of every other run: whole tensors in one file, from which a run can be resumed on any
number of processes. Source: Zhao et al. 2023, arXiv:2304.11277; torch's `fully_shard` does the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytorch_lightning as pl
from lightning_fabric.utilities.optimizer import _optimizers_to_device
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.transformer_blocks import transformer_blocks
from lesion_exp.config.registered import TARGET
from lesion_exp.errors import ConfigError
from lesion_exp.training.data import is_pretraining

SHARDED: Final = "fsdp"
"""The value of `trainer.strategy`."""
_ASKED: Final = f"trainer.strategy={SHARDED}"
_INSTEAD: Final = "trainer.strategy=ddp"
_OPTIMIZERS: Final = ("torch.optim.AdamW", "torch.optim.Adam", "torch.optim.SGD")
"""Optimizers that treat each number on its own, so that they do the same with parts of tensors."""


def is_sharded(trainer: Mapping[str, Any]) -> bool:
    """Returns whether `trainer` (the node of that name) asks for sharded weights."""
    return bool(trainer["strategy"] == SHARDED)


def check_sharding(config: Mapping[str, Any]) -> None:
    """Checks that everything else that `config` (of a whole job) asks for works with sharded weights, if they are.

    Raises:
        ConfigError: something does not.
    """
    trainer, backbone = config["trainer"], config["backbone"]
    if not is_sharded(trainer):
        return
    wanted = {
        "pretrain=null": not is_pretraining(config),
        "trainer.ema_decay=null": trainer["ema_decay"] is None,
        "trainer.compile=none": trainer["compile"] in (False, "none"),
        "backbone.tune=full": backbone.get("tune", "full") == "full",
        "backbone.freeze_epochs=0": not backbone.get("freeze_epochs", 0),
        "backbone.metadata=none": backbone.get("metadata", "none") == "none",
        "dataset.view=dermoscopic": config["dataset"].get("view", "dermoscopic") != "both",
        "optimizer=adamw": config["optimizer"][TARGET] in _OPTIMIZERS,
    }
    missing = [override for override, is_met in wanted.items() if not is_met]
    if missing:
        raise ConfigError(
            f"expected a training that can divide its weights for {_ASKED}; set {' '.join(missing)}, or use {_INSTEAD}"
        )


def check_shardable(network: Backbone) -> None:
    """Checks that `network` has what is sharded, and nothing that processes would have to keep alike.

    Raises:
        ConfigError: it has no transformer blocks, or it has batch normalisation.
    """
    transformer_blocks(network, _ASKED, _INSTEAD)
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise ConfigError(
            f"expected a network without batch normalisation for {_ASKED}, since each process would have statistics of "
            f"its own; use {_INSTEAD}, or another network such as backbone=vit_b_16"
        )


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with the plain checkpoints of the other strategies.

    Lightning's own has another order of the optimizer's states in checkpoints, and reads the file in each process.

    Args:
        num_processes: processes on all machines.
    """

    def __init__(self, num_processes: int) -> None:
        super().__init__(data_parallel_size=num_processes, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup(self, trainer: pl.Trainer) -> None:
        """Shards the network, block by block, and makes the optimizer of the parts that this process has."""
        assert self.accelerator is not None
        assert self.lightning_module is not None
        self.accelerator.setup(trainer)
        network = self._network()
        from torch.distributed.fsdp import FSDPModule, fully_shard  # takes a second, which other runs do not need

        if not isinstance(network, FSDPModule):  # it is from the second call on
            mesh = self.device_mesh["data_parallel"]
            for block in transformer_blocks(network, _ASKED, _INSTEAD):
                fully_shard(block, mesh=mesh)
            fully_shard(network, mesh=mesh)
        self.model = self.precision_plugin.convert_module(self.lightning_module)
        self.model_to_device()
        self.barrier()
        fits = trainer.state.fn == TrainerFn.FITTING
        if fits:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if fits:
            _optimizers_to_device(self.optimizers, self.root_device)

    def on_validation_start(self) -> None:
        """Gathers the whole network, since the processes evaluate different numbers of batches."""
        self._keep_whole(True)

    def on_validation_end(self) -> None:
        """Keeps the parts of this process alone."""
        self._keep_whole(False)

    def on_predict_start(self) -> None:
        """Gathers the whole network; see `on_validation_start`."""
        self._keep_whole(True)

    def on_predict_end(self) -> None:
        """Keeps the parts of this process alone."""
        self._keep_whole(False)

    def _keep_whole(self, whole: bool) -> None:
        from torch.distributed.fsdp import FSDPModule

        for name, module in self._network().named_modules():
            if isinstance(module, FSDPModule):
                is_block = bool(name)  # the network itself has none, and stays whole until its backward pass
                module.set_reshard_after_forward(is_block and not whole, recurse=False)
                if whole:
                    module.unshard()
                else:
                    module.reshard()

    def _network(self) -> Backbone:
        assert self.lightning_module is not None
        network = self.lightning_module.backbone
        assert isinstance(network, Backbone), "Lightning trains a task of this package"
        return network

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns the whole weights in the first process; the others take part and return nothing."""
        assert self.lightning_module is not None
        return self._in_first(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Returns the whole state of `optimizer`, as its `state_dict` would be in a training that is not sharded."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        found = optimizer.state_dict()
        return {**found, "state": {number: self._in_first(state) for number, state in found["state"].items()}}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a plain checkpoint, as any strategy saves it, and loads the parts of this process."""
        content = self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=True)
        assert self.lightning_module is not None
        load_weights(self.lightning_module, content["state_dict"])
        for optimizer, state in zip(self.optimizers, content["optimizer_states"], strict=True):
            optimizer.load_state_dict(_parts_of(optimizer, state))
        return content

    def _in_first(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """`values` with whole tensors, in the first process; gathered one by one, which limits the memory of all."""
        whole: dict[Any, Any] = {}
        for name, value in values.items():
            tensor = value.full_tensor() if _is_part(value) else value
            if self.is_global_zero:
                whole[name] = tensor.cpu() if isinstance(tensor, Tensor) else tensor
        return whole


def load_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads the whole weights `state` into `module`, of which each process may have parts.

    Raises:
        RuntimeError: names or shapes differ.
    """
    own = module.state_dict()
    module.load_state_dict({name: _part(value, own[name]) if name in own else value for name, value in state.items()})


def _parts_of(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` of a whole optimizer with the parts that this process has of what belongs to each number of a weight."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    weight_of = dict(zip(numbers, weights, strict=True))
    parts = {
        number: {name: _part(value, weight_of[number]) for name, value in known.items()}
        for number, known in state["state"].items()
    }
    return {**state, "state": parts}


def _part(value: Any, like: Any) -> Any:
    """The part of the whole tensor `value` that this process has of `like`; `value` itself if `like` is whole."""
    if not _is_part(like) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # without a source, since each process has the whole tensor
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _is_part(value: object) -> bool:
    """Whether `value` is a DTensor, of which this process has a part."""
    return isinstance(value, Tensor) and hasattr(value, "device_mesh")

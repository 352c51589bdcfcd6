"""Where a network predicts, and in which precision: what Lightning provides in training, without Lightning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from lesion_exp.errors import ConfigError, nearest
from lesion_exp.model.precision import precision_here

_SHORT: Final = {
    "16": "16-mixed",
    "32": "32-true",
    "64": "64-true",
    "bf16": "bf16-mixed",
}
"""Lightning's short names of precisions."""
_MIXED: Final = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_TRUE: Final = {
    "32-true": torch.float32,
    "64-true": torch.float64,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
}


@dataclass(frozen=True)
class PredictionDevice:
    """A device and a precision.

    The results are those of Lightning's predict loop, bit for bit.
    """

    device: torch.device
    precision: str
    """Lightning's name of the precision, such as `bf16-mixed`."""

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU of CUDA."""
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and images: float32, unless the precision is one without mixing."""
        return _TRUE.get(self.precision, torch.float32)

    def prepare(self, network: nn.Module) -> None:
        """Moves `network` to the device; its weights get the type of a precision without mixing."""
        network.to(self.device)
        if self.dtype != torch.float32:
            network.to(dtype=self.dtype)

    def moved(self, batch: Any) -> Any:
        """Returns `batch` (tensors in dicts, tuples and lists, beside other values) on the device.

        Floating-point tensors get the type of a precision without mixing.
        """
        if isinstance(batch, Tensor):
            if self.dtype != torch.float32 and batch.is_floating_point():
                batch = batch.to(self.dtype)
            return batch.to(self.device, non_blocking=self.on_gpu)
        if isinstance(batch, Mapping):
            return type(batch)(**{key: self.moved(value) for key, value in batch.items()})
        if isinstance(batch, tuple) and hasattr(batch, "_fields"):
            return type(batch)(*map(self.moved, batch))
        if isinstance(batch, list | tuple):
            return type(batch)(map(self.moved, batch))
        return batch

    @contextmanager
    def computing(self, *, gradients: bool = False) -> Iterator[None]:
        """Computes the forward passes inside the block in the precision.

        Gradients are off, but with `gradients` a part of the block may turn them on.
        """
        mixed = _MIXED.get(self.precision)
        with (
            torch.no_grad() if gradients else torch.inference_mode(),
            nullcontext() if mixed is None else torch.autocast(self.device.type, mixed, cache_enabled=False),
            nullcontext() if self.dtype == torch.float32 else _default_type(self.dtype),
        ):
            yield


def prediction_device(config: Mapping[str, Any], index: int = 0) -> PredictionDevice:
    """Returns the device on which this machine predicts, and its precision, for `config` (the node `trainer`).

    Args:
        config: `accelerator` and `precision`. Every accelerator other than `cpu` is a GPU where there is one.
        index: which of the GPUs.

    Raises:
        ConfigError: there is no such precision.
    """
    accelerator = "cpu" if config["accelerator"] == "cpu" else "auto"
    asked = str(config["precision"])
    precision = precision_here(_SHORT.get(asked, asked), accelerator)
    known = [*_TRUE, *_MIXED]
    if precision not in known:
        raise ConfigError(
            f"expected trainer.precision to be one of {', '.join(known)} for a prediction, got {asked!r}; "
            f"{nearest(asked, known)}"
        )
    return PredictionDevice(_device(accelerator, index), precision)


def _device(accelerator: str, index: int) -> torch.device:
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", index)
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@contextmanager
def _default_type(dtype: torch.dtype) -> Iterator[None]:
    former = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(former)

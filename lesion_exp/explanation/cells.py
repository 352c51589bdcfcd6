"""Where in the image the cells of a feature map lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


class Cells(NamedTuple):
    """Centres of the cells of a square map, the same for rows and columns, in pixels; pixel 0 has its centre at 0."""

    first: float
    step: float


def even_cells(num_cells: int, side: int) -> Cells:
    """Cells that divide the image's side, in pixels, into equal parts: those of patches and of pooling."""
    step = side / num_cells
    return Cells(step / 2 - 0.5, step)


class CellTracker:
    """Follows a forward pass, and knows afterwards where the cells of each size of map lie.

    A window of k pixels in steps of s, after p pixels of padding, has its first centre at (k - 1) / 2 - p: at pixel 0
    for the strided 3 x 3 and 7 x 7 convolutions of ResNets, so that their last cells lie half a cell further up and
    left than equal parts of the image would. Branches that are added or concatenated agree on it.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._known = {side: Cells(0.0, 1.0)}

    def cells(self, num_cells: int) -> Cells:
        """Those of a map of `num_cells` by `num_cells`; equal parts of the image where no window made it."""
        return self._known.get(num_cells) or even_cells(num_cells, self.side)

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Inside the block, forward passes of `network` are followed."""
        layers = [module for module in network.modules() if isinstance(module, _WINDOWS)]
        handles = [layer.register_forward_hook(self._note) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        before, after = inputs[0].shape[-1], output.shape[-1]
        if after == before or after in self._known or before not in self._known:
            return
        kernel, stride, padding, dilation = (
            _first(getattr(layer, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        first, step = self._known[before]
        self._known[after] = Cells(first + (dilation * (kernel - 1) / 2 - padding) * step, step * stride)


def spread(maps: Tensor, cells: Cells, side: int) -> Tensor:
    """Maps, (N, h, h), as (N, side, side): linear between the centres of the cells, and even beyond the outermost."""
    count = maps.shape[1]
    if cells == even_cells(count, side):
        return functional.interpolate(maps[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
    places = (torch.arange(side, device=maps.device, dtype=maps.dtype) - cells.first) / cells.step
    scaled = 2 * places / max(count - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(scaled, scaled, indexing="xy"), dim=-1).expand(len(maps), -1, -1, -1)
    return functional.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=True)[:, 0]


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)

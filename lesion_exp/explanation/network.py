"""The network that is explained: its logits, and its feature maps with gradients and their positions in the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesion_exp.errors import ConfigError, nearest

_WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


class Cells(NamedTuple):
    """The centres of the cells of a square map, in pixels, for rows and columns alike; that of pixel 0 is 0."""

    first: float
    step: float


def even_cells(num_cells: int, side: int) -> Cells:
    """Returns the cells that divide the side of the image, in pixels, into equal parts, as patches and pooling do."""
    step = side / num_cells
    return Cells(step / 2 - 0.5, step)


class CellTracker:
    """Records, during a forward pass, the positions of the cells of maps of each size.

    The first window of k pixels, after p pixels of padding, has its centre at (k - 1) / 2 - p. This is pixel 0 for the
    strided 3 x 3 and 7 x 7 convolutions of ResNets, so that their last cells lie half a cell further up and left than
    equal parts of the image would. Branches that are added or concatenated have the same positions.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._known = {side: Cells(0.0, 1.0)}

    def cells(self, num_cells: int) -> Cells:
        """Returns the cells of a map of `num_cells` by `num_cells`; equal parts of the image if no window made it."""
        return self._known.get(num_cells) or even_cells(num_cells, self.side)

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Records the forward passes of `network` inside the block."""
        layers = [module for module in network.modules() if isinstance(module, _WINDOWS)]
        handles = [layer.register_forward_hook(self._record) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _record(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        before, after = inputs[0].shape[-1], output.shape[-1]
        if after == before or after in self._known or before not in self._known:
            return
        kernel, stride, padding, dilation = (
            _first(getattr(layer, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        first, step = self._known[before]
        self._known[after] = Cells(first + (dilation * (kernel - 1) / 2 - padding) * step, step * stride)


def spread(maps: Tensor, cells: Cells, side: int) -> Tensor:
    """Interpolates maps, (N, h, h) -> (N, side, side), linearly between the centres of the cells.

    Values are constant beyond the outermost centres.
    """
    count = maps.shape[1]
    if cells == even_cells(count, side):
        return functional.interpolate(maps[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
    places = (torch.arange(side, device=maps.device, dtype=maps.dtype) - cells.first) / cells.step
    scaled = 2 * places / max(count - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(scaled, scaled, indexing="xy"), dim=-1).expand(len(maps), -1, -1, -1)
    return functional.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=True)[:, 0]


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)


class FeatureBody(Protocol):
    """The part of a network that computes feature maps of the image that is explained."""

    @property
    def network(self) -> nn.Module:
        """The feature extractor, whose layers have dotted names."""

    def cam_layer(self) -> nn.Module:
        """Returns the module whose output is the last feature map."""

    def feature_maps(self, output: Tensor) -> Tensor:
        """Returns the output of a layer as maps, (N, C, h, w)."""


class LastMaps(NamedTuple):
    """Feature maps of N images, the gradients of a logit by them, and the positions of their cells."""

    maps: Tensor
    """float32 (N, C, h, h)."""
    gradients: Tensor
    """float32 (N, C, h, h)."""
    cells: Cells


class FinerLayer(NamedTuple):
    """A layer with finer maps than the last one."""

    name: str
    cells: int
    """The number of cells on a side."""


class ExplainedNetwork(nn.Module):
    """A network from images to logits, in evaluation mode, with access to its feature maps.

    `last_maps` and `finer_layer` set forward hooks, so that only one thread may use an object at a time.

    Args:
        classifier: maps a batch with the key `image` and those of `companions` to logits.
        body: computes the feature maps.
        companions: further inputs of each image, which are not explained: `metadata` (N, D), `clinical` (N, 3, S, S).
    """

    def __init__(
        self, classifier: nn.Module, body: FeatureBody, companions: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.classifier = classifier.eval()
        self.body = body
        self.companions = dict(companions or {})

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits, float32 (k * N, classes).

        Args:
            images: float32 (k * N, C, S, S), normalised: k versions of the N images, one version after the other.
        """
        batch = {"image": images}
        for name, values in self.companions.items():
            batch[name] = values.repeat(len(images) // len(values), *[1] * (values.ndim - 1))
        logits: Tensor = self.classifier(batch)
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """Returns the softmax of `forward`."""
        logits: Tensor = self(images)
        return logits.softmax(dim=1)

    def for_image(self, row: int) -> ExplainedNetwork:
        """Returns the same network with the further inputs of one of the N images."""
        return ExplainedNetwork(
            self.classifier, self.body, {name: values[row : row + 1] for name, values in self.companions.items()}
        )

    def last_maps(self, images: Tensor, targets: Tensor, layer: str | None = None) -> LastMaps:
        """Returns the last feature maps of the images, and the gradients of the logits of the targets by them.

        Args:
            images: float32 (N, C, S, S), normalised.
            targets: int64 (N,), classes.
            layer: dotted name, within the feature extractor, of another module whose output is used instead.

        Raises:
            ConfigError: there is no such module, or its output is not a map.
        """
        outputs: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            if outputs:  # a feature extractor that two views share: the dermoscopic image goes first
                return output
            outputs.append(output.detach().requires_grad_())
            return outputs[0].clone()  # the next layers may work in place

        tracker = CellTracker(images.shape[-1])
        handle = self._layer(layer).register_forward_hook(keep)
        try:
            with torch.enable_grad(), tracker.following(self.body.network):
                logits = self(images)
                if not outputs:
                    raise ConfigError(f"expected a layer that the network calls, got {layer!r}; name a layer inside it")
                score = logits.gather(1, targets[:, None]).sum()
                (gradients,) = torch.autograd.grad(score, outputs)
        finally:
            handle.remove()
        maps = self.body.feature_maps(outputs[0].detach())
        return LastMaps(maps, self.body.feature_maps(gradients), tracker.cells(maps.shape[-1]))

    def finer_layer(self, image: Tensor, cells: int) -> FinerLayer | None:
        """Returns the last block whose square maps have at least `cells` cells on a side; None if there is none.

        Blocks are the modules at the first two levels of the feature extractor, such as `layer3` and `features.2`.

        Args:
            image: float32 (1, C, S, S), normalised.
            cells: the least number of cells on a side.
        """
        found: list[FinerLayer] = []
        handles = []

        def looker(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def look(_: nn.Module, __: Any, output: Any) -> None:
                if isinstance(output, Tensor) and output.ndim == 4:
                    height, width = self.body.feature_maps(output).shape[-2:]
                    if height == width >= cells:
                        found.append(FinerLayer(name, int(height)))

            return look

        for name, module in self.body.network.named_modules():
            if name and name.count(".") < 2 and any(True for _ in module.parameters()):
                handles.append(module.register_forward_hook(looker(name)))
        try:
            with torch.no_grad():
                self(image)
        finally:
            for handle in handles:
                handle.remove()
        return found[-1] if found else None

    def _layer(self, name: str | None) -> nn.Module:
        if name is None:
            return self.body.cam_layer()
        layers: dict[str, nn.Module] = dict(self.body.network.named_modules())
        if name not in layers:
            raise ConfigError(f"expected layer to name a layer of the network, got {name!r}; {_nearest(name, layers)}")
        return layers[name]


def _nearest(name: str, layers: Mapping[str, nn.Module]) -> str:
    """Returns the most similar names, else those of the first level, because a network has hundreds of names."""
    paths = [path for path in layers if path]
    near = nearest(name, paths)
    return near if near.startswith("did") else nearest(name, [path for path in paths if "." not in path])

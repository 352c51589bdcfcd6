"""Whether a network takes the images and the batches that a job will give it, found without computing anything."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from lesion_exp.backbone.options import InputsAndOutputs
from lesion_exp.errors import ConfigError, UserError
from lesion_exp.model.inputs import sample_options
from lesion_exp.model.network import make_backbone

log = logging.getLogger(__name__)

PATCHES: Final = (32, 16, 14, 224)
"""Numbers of pixels of which networks want their image size to be a multiple."""
SMALLEST_IMAGE: Final = 16
_ONE_IMAGE: Final = "Expected more than 1 value per channel"
"""What torch's batch normalisation says of a batch from which it cannot compute a deviation."""


@dataclass(frozen=True)
class Trial:
    """A network that a job's config describes, and the batches that it will get."""

    config: Mapping[str, Any]
    num_classes: int
    metadata_width: int
    batch_size: int

    def check(self) -> None:
        """Checks that the network can be made for its image size and trains on its batches; a second time it knows.

        Raises:
            ConfigError: an image size that it does not take, or batches of one image that its normalisation cannot use.
        """
        read = {key: self.config[key] for key in ("backbone", "dataset", "image_size", "seed")}
        _check(json.dumps(read, sort_keys=True, default=str), self.num_classes, self.metadata_width, self.batch_size)

    def check_now(self) -> None:
        """As `check`, whatever was found before."""
        size = int(self.config["image_size"])
        reason = self._failure(size)
        if reason is None:
            return
        name = self.config["backbone"].get("name") or str(self.config["backbone"]["_target_"]).rpartition(".")[2]
        if _ONE_IMAGE in str(reason) and self.batch_size == 1:
            raise ConfigError(
                f"expected at least 2 images a step for the batch normalisation of backbone {name} at image_size="
                f"{size}, got 1; set loader.batch_size=2 or more (the training part must have as many images), or a "
                f"larger image_size"
            ) from reason
        fitting = [other for other in _sizes_near(size) if self._failure(other) is None]
        if not fitting:
            raise reason
        below, above = [s for s in fitting if s < size], [s for s in fitting if s > size]
        nearest = [f"image_size={s}" for s in (*([max(below)] if below else ()), *([min(above)] if above else ()))]
        raise ConfigError(
            f"expected an image_size that backbone {name} takes, got {size}, of which it says: "
            f"{' '.join(str(reason).split()) or type(reason).__name__}; set {' or '.join(nearest)}"
        ) from reason

    def _failure(self, image_size: int) -> Exception | None:
        """What goes wrong with images of that size; None if nothing does."""
        try:
            self._run(image_size, "meta")
            return None
        except UserError:
            raise
        except Exception:  # not every network can be run on shapes alone, so what went wrong is looked at for real
            log.debug("a trial on shapes alone failed", exc_info=True)
        try:
            self._run(image_size, "cpu")
        except UserError:
            raise
        except Exception as error:  # whatever the network's own code raises
            return error
        return None

    def _run(self, image_size: int, device: str) -> None:
        sample = sample_options(self.config)
        backbone = {key: "none" if key == "weights" else value for key, value in self.config["backbone"].items()}
        width = self.metadata_width
        shape = InputsAndOutputs(self.num_classes, image_size, sample.in_channels, width, sample.clinical)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device(device):
            network = make_backbone(backbone, shape).train()

            def images(channels: int) -> Tensor:
                return torch.zeros(self.batch_size, channels, image_size, image_size)

            network(
                images(sample.in_channels),
                images(3) if sample.clinical else None,
                torch.zeros(self.batch_size, width) if width else None,
            )


@functools.lru_cache(maxsize=64)
def _check(config: str, num_classes: int, metadata_width: int, batch_size: int) -> None:
    Trial(json.loads(config), num_classes, metadata_width, batch_size).check_now()


def _sizes_near(size: int) -> Iterator[int]:
    """Image sizes below and above `size` that networks usually take."""
    for patch in PATCHES:
        below = (size - 1) // patch * patch
        yield from (found for found in (below, (size // patch + 1) * patch) if found >= SMALLEST_IMAGE)

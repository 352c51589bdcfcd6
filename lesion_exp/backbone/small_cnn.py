"""A small convolutional network for small data sets and slow machines."""

from __future__ import annotations

import itertools

from torch import nn

from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.backbone import Backbone, HeadOptions
from lesion_exp.backbone.body import Body
from lesion_exp.backbone.weights import read_state


def small_cnn(
    width: int,
    weights: str,
    attention: str,
    metadata: str,
    dropout: float,
    freeze_epochs: int,
    layer_decay: float,
    share_branches: bool,
    *,
    num_classes: int,
    in_channels: int,
    metadata_width: int,
    two_views: bool,
    image_size: int,
) -> Backbone:
    """Four blocks of a 3x3 convolution, batch norm, ReLU and pooling, then the mean over the image.

    `width` is the number of filters of the first block; each next block has twice as many. The other arguments are
    those of `torchvision_backbone`; there are no ImageNet weights.

    Raises:
        ConfigError: as there.
    """
    widths = [3, width, 2 * width, 4 * width, 8 * width]
    blocks = [_block(inside, outside) for inside, outside in itertools.pairwise(widths)]
    features = nn.Sequential(*blocks)
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    network.add_module("classifier", nn.Linear(widths[-1], num_classes))
    return assemble(
        network,
        Body,
        HeadOptions(
            num_classes,
            in_channels,
            metadata_width,
            two_views,
            metadata,
            dropout,
            freeze_epochs,
            layer_decay,
            share_branches,
        ),
        head="classifier",
        cam_path="features",
        is_convolutional=True,
        attention=attention,
        image_size=image_size,
        state=None if weights == "none" else read_state(weights),
        source=weights,
    )


def _block(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(), nn.MaxPool2d(2)
    )

"""A small convolutional network for small data sets and slow machines."""

from __future__ import annotations

import itertools

from torch import nn

from lesion_exp.backbone.network import Network


def small_cnn(width: int, *, num_classes: int) -> Network:
    """Returns a network of four blocks of a 3x3 convolution, batch norm, ReLU and pooling, and a mean over the image.

    `width` is the number of filters of the first block; each next block has twice as many. There are no ImageNet
    weights.
    """
    widths = [3, width, 2 * width, 4 * width, 8 * width]
    blocks = [_block(inside, outside) for inside, outside in itertools.pairwise(widths)]
    features = nn.Sequential(*blocks)
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    network.add_module("classifier", nn.Linear(widths[-1], num_classes))
    return Network(network, head="classifier", cam_path="features", is_convolutional=True)


def _block(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(), nn.MaxPool2d(2)
    )

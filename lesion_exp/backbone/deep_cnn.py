"""The network of about 26 million parameters that a popular notebook trains on HAM10000."""

from __future__ import annotations

from torch import nn

from lesion_exp.backbone.assemble import assemble
from lesion_exp.backbone.backbone import Backbone, HeadOptions
from lesion_exp.backbone.body import Body
from lesion_exp.backbone.weights import read_state
from lesion_exp.errors import ConfigError

FILTERS = (32, 64, 128, 256)
DENSE = (512, 256, 128)


def deep_cnn(
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
    """Four blocks of two 3x3 convolutions, batch norm, pooling and dropout 0.25; dense layers with dropout 0.5; a head.

    32, 64, 128 and 256 filters; dense 512, 256 and 128. Nearly all parameters lie in the first dense layer, whose size
    follows the image size: 27.0 million in all at 224 pixels. The arguments are those of `torchvision_backbone`; there
    are no ImageNet weights.

    Raises:
        ConfigError: as there, or an image of fewer than 16 pixels.
    """
    if image_size < 16:
        raise ConfigError(f"expected image_size of at least 16 pixels for deep_cnn, got {image_size}")
    features = nn.Sequential(*[_block(i, o) for i, o in zip((3, *FILTERS), FILTERS, strict=False)])
    flat = FILTERS[-1] * (image_size // 16) ** 2
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("flatten", nn.Flatten())
    network.add_module("dense", nn.Sequential(*[_dense(i, o) for i, o in zip((flat, *DENSE), DENSE, strict=False)]))
    network.add_module("classifier", nn.Linear(DENSE[-1], num_classes))
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
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.25),
    )


def _dense(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, outside), nn.ReLU(), nn.BatchNorm1d(outside), nn.Dropout(0.5))

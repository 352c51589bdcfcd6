"""The network of about 27 million parameters that a popular notebook trains on HAM10000."""

from __future__ import annotations

from torch import nn

from lesion_exp.backbone.network import Network
from lesion_exp.errors import ConfigError

FILTERS = (32, 64, 128, 256)
DENSE = (512, 256, 128)


def deep_cnn(*, num_classes: int, image_size: int) -> Network:
    """Returns a network of four blocks of two 3x3 convolutions, three dense layers and a head.

    The blocks have 32, 64, 128 and 256 filters, batch norm, pooling and dropout 0.25. The dense layers have 512, 256
    and 128 units and dropout 0.5. Nearly all parameters lie in the first dense layer, whose size depends on the image
    size; there are 27.0 million in all at 224 pixels. There are no ImageNet weights.

    Raises:
        ConfigError: `image_size` is less than 16 pixels.
    """
    if image_size < 16:
        raise ConfigError(
            f"expected image_size of at least 16 pixels for deep_cnn, got {image_size}; for example image_size=224"
        )
    features = nn.Sequential(*[_block(i, o) for i, o in zip((3, *FILTERS), FILTERS, strict=False)])
    flat = FILTERS[-1] * (image_size // 16) ** 2
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("flatten", nn.Flatten())
    network.add_module("dense", nn.Sequential(*[_dense(i, o) for i, o in zip((flat, *DENSE), DENSE, strict=False)]))
    network.add_module("classifier", nn.Linear(DENSE[-1], num_classes))
    return Network(network, head="classifier", cam_path="features", is_convolutional=True)


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

"""The preprocessing with which weights were trained, read from the places where it is stated.

Nothing here imports torch: the preprocessing of a job is resolved when its config is composed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from lesion_exp.choices import INTERPOLATIONS
from lesion_exp.errors import ConfigError, nearest

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's images (RGB, shares of full range); most pretrained weights expect them."""
CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)
"""The same of the images that CLIP was trained with. OpenCLIP's weights expect them if their config names no others."""
PLACE: Final = "backbone.preprocessing"
_PILLOWS: Final = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of its filters, which Hugging Face's preprocessor_config.json holds."""
_UNCROPPED: Final = 384
"""Side in pixels from which ConvNeXt's processor shows the whole image, although its file states a `crop_pct`."""


def share_of_side(key: str, value: object) -> float:
    """Returns `value`, that of the config key `key`, as a share of a side in (0, 1].

    Raises:
        ConfigError: `value` is not such a share.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"expected {key} as a share above 0, up to 1, got {value!r}; 1 is the whole side")
    return round(float(value), 6)


def three_values(key: str, values: object) -> tuple[float, ...]:
    """Returns `values`, those of the config key `key`, as three numbers.

    Raises:
        ConfigError: they are not three numbers, or are out of the range of a mean or a deviation.
    """
    is_mean = key.endswith("mean")
    numbers = values if isinstance(values, Sequence) and not isinstance(values, str) else ()
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers)
    if len(numbers) != 3 or not is_number or not all(0 <= v <= 1 if is_mean else v > 0 for v in numbers):
        what = "three values from 0 to 1 (RGB)" if is_mean else "three values above 0 (RGB)"
        example = ",".join(map(str, MEAN if is_mean else STD))
        raise ConfigError(f"expected {key} as {what}, got {values!r}; for example {key}=[{example}]")
    return tuple(float(value) for value in numbers)


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing with which weights were trained; `backbone.preprocessing` of a job has these five keys.

    Args:
        mean: mean of each channel (RGB), 0 to 1.
        std: standard deviation of each channel (RGB), above 0, in units of the full range.
        interpolation: how the images were resized: `bilinear`, `bicubic` or `lanczos`.
        crop_share: ratio of the side of the centred square that was shown to the short side of the image, in (0, 1].
        size: side of that square in pixels; None if it is not known.

    Raises:
        ConfigError: a value is out of its range.
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    interpolation: str = "bilinear"
    crop_share: float = 1.0
    size: int | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, three_values(f"{PLACE}.{name}", getattr(self, name)))
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"expected {PLACE}.interpolation to be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        object.__setattr__(self, "crop_share", share_of_side(f"{PLACE}.crop_share", self.crop_share))
        if self.size is not None and (isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1):
            raise ConfigError(f"expected {PLACE}.size as a number of pixels, got {self.size!r}; 224 is usual")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as in a config."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def changed(self, values: Mapping[str, Any]) -> Preprocessing:
        """Returns a copy in which the keys of `values` are changed.

        Raises:
            ConfigError: a key does not exist, or a value is out of its range.
        """
        known = [field.name for field in fields(self)]
        for key in values:
            if key not in known:
                raise ConfigError(f"expected a key of {PLACE}, got {PLACE}.{key}; {nearest(str(key), known)}")
        return Preprocessing(**{**self.to_dict(), **values})


IMAGENET: Final = Preprocessing()
"""The preprocessing of networks that start from random weights."""


def said_beside(file: Path) -> Preprocessing | None:
    """Returns the preprocessing that a file beside the weights states; None if no file does.

    The files are Hugging Face's `preprocessor_config.json`, OpenCLIP's `open_clip_config.json` and timm's
    `config.json`.
    """
    for name, read in _SIDECARS.items():
        path = file.parent / name
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                continue
            said = read(content) if isinstance(content, dict) else None
            if said is not None:
                return said
    return None


def said_in_header(file: Path) -> Preprocessing | None:
    """Returns the preprocessing in the header of a safetensors file of this project; None for other files."""
    if file.suffix != ".safetensors":
        return None
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size:
            return None
        try:
            card = json.loads(json.loads(opened.read(length)).get("__metadata__", {}).get("lesion_exp", "null"))
        except (ValueError, AttributeError):
            return None
    return said_by_card(card)


def said_by_card(card: object) -> Preprocessing | None:
    """Returns the preprocessing in the card of a network of this project; None if there is no card."""
    prepared = card.get("preprocessing") if isinstance(card, Mapping) else None
    if not isinstance(prepared, Mapping) or "mean" not in prepared:
        return None
    return Preprocessing(
        prepared["mean"],
        prepared["std"],
        prepared.get("interpolation", IMAGENET.interpolation),
        prepared.get("crop_share", IMAGENET.crop_share),
        prepared["image_size"],
    )


def _of_transformers(content: Mapping[str, Any]) -> Preprocessing | None:
    if "image_mean" not in content:
        return None
    resized, cropped = _side(content.get("size")), _side(content.get("crop_size"))
    if not content.get("do_center_crop", False):
        cropped = None
    share = cropped / resized if cropped and resized and cropped < resized else 1.0
    if (resized or 0) < _UNCROPPED:
        share = content.get("crop_pct") or share
    return Preprocessing(
        content["image_mean"],
        content["image_std"],
        _PILLOWS.get(content.get("resample", 2), "bilinear"),
        share,
        cropped or resized,
    )


def _of_open_clip(content: Mapping[str, Any]) -> Preprocessing | None:
    said = content.get("preprocess_cfg")
    if not isinstance(said, dict):
        return None
    vision = content.get("model_cfg", {}).get("vision_cfg", {})
    size = _side(said.get("size", vision.get("image_size")))
    way = said.get("interpolation", "bicubic")
    way = way if way in INTERPOLATIONS else "bicubic"
    return Preprocessing(said.get("mean", CLIP_MEAN), said.get("std", CLIP_STD), way, 1.0, size)


def _of_timm(content: Mapping[str, Any]) -> Preprocessing | None:
    said = content.get("pretrained_cfg")
    return of_timm_config(said) if isinstance(said, dict) and "mean" in said else None


def of_timm_config(said: Mapping[str, Any]) -> Preprocessing:
    """Returns timm's `pretrained_cfg` as a `Preprocessing`."""
    way = said.get("interpolation", "bicubic")
    return Preprocessing(
        said["mean"],
        said["std"],
        way if way in INTERPOLATIONS else "bilinear",  # timm takes `random` as bilinear in evaluation
        min(said.get("crop_pct", 1.0), 1.0),  # above 1, timm adds a border to the whole image
        min(said["input_size"][1:]),
    )


def _side(size: object) -> int | None:
    """Returns the side in pixels from a size of Hugging Face or OpenCLIP: a number, a list, or a mapping."""
    if isinstance(size, Mapping):
        size = size.get("shortest_edge", size.get("height"))
    if isinstance(size, Sequence) and size:
        size = size[0]
    return size if isinstance(size, int) else None


_SIDECARS: Final = {
    "preprocessor_config.json": _of_transformers,
    "open_clip_config.json": _of_open_clip,
    "config.json": _of_timm,
}

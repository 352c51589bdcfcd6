"""The values of the keys that take one of a few: the rooms read them here, and so do the checks of a config.

A config is checked before anything heavy is imported, so this module imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NONE: Final = "none"
TARGETS: Final = ("diagnosis", "malignant")
MASK_MODES: Final = (NONE, "overlay", "crop", "channel", "background")
VIEWS: Final = ("dermoscopic", "clinical", "both")
FITS: Final = ("squash", "crop", "pad")
ATTENTIONS: Final = (NONE, "se", "cbam")
METADATA_MODES: Final = (NONE, "concat", "metablock")
TTA: Final = (NONE, "flips8", "multicrop")
CALIBRATIONS: Final = ("temperature", "vector", "isotonic")
"""Calibrations that are fitted; a key that takes one takes `none` as well."""
ENSEMBLES: Final = ("mean", "rank", "stacked")
"""Ensembles of predictions tables."""
SOUP: Final = "soup"
POOLED: Final = "pooled"
BOOTSTRAP_UNITS: Final = ("lesion", "patient")
WAYS_TO_SPLIT: Final = ("grouped", "by_image", "resample_then_split")

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "task.target": TARGETS,
    "dataset.mask": MASK_MODES,
    "dataset.on_bad_image": ("error", "skip"),
    "dataset.view": VIEWS,
    "augmentation.fit": FITS,
    "augmentation.device": ("cpu", "gpu"),
    "backbone.attention": ATTENTIONS,
    "backbone.metadata": METADATA_MODES,
    "evaluation.tta": TTA,
    "evaluation.calibration": (NONE, *CALIBRATIONS),
    "evaluation.ensemble": (*ENSEMBLES, SOUP, POOLED),
    "evaluation.bootstrap_unit": BOOTSTRAP_UNITS,
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.early_stopping.mode": ("max", "min"),
    "trainer.compile": (NONE, "default", "reduce-overhead", "max-autotune"),
    "split.part": ("train", "val", "test"),
    "split.way": WAYS_TO_SPLIT,
}
"""Key of the config -> its values."""

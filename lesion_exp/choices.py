"""The allowed values of every config key that takes one of a few values.

The code that uses a key and the checks of a config both read them here. A config is checked before anything large is
imported, so this module imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NONE: Final = "none"
TARGETS: Final = ("diagnosis", "malignant")
MASK_MODES: Final = (NONE, "overlay", "crop", "channel", "background")
DRAWN: Final = "lesion_exp.dataset.synthetic.read_synthetic"
"""The reader of a data set whose images are generated where they are missing."""
VIEWS: Final = ("dermoscopic", "clinical", "both")
FITS: Final = ("squash", "crop", "pad")
OF_TRAINING: Final = "train"
"""The value of augmentation.mean and augmentation.std for the statistics of the training part."""
INTERPOLATIONS: Final = ("bilinear", "bicubic", "lanczos")
ATTENTIONS: Final = (NONE, "se", "cbam")
METADATA_MODES: Final = (NONE, "concat", "metablock")
HEADS: Final = ("linear", "mlp", "cosine", "knn")
LAST_GROUPS: Final = "last:"
"""Prefix of a value of `backbone.tune` that ends in a number of groups of layers."""
TUNES: Final = ("full", "head", "norms", "lora", f"{LAST_GROUPS}N")
FLIPS8: Final = "flips8"
"""The 8 flips and quarter turns of a square, as views of an image."""
TTA: Final = (NONE, FLIPS8, "multicrop")
CALIBRATIONS: Final = ("temperature", "vector", "isotonic")
"""Calibration methods that are fitted on the validation part."""
ANY_CALIBRATION: Final = (NONE, *CALIBRATIONS)
ENSEMBLES: Final = ("mean", "rank")
"""Ways to combine the predictions of several runs on the same images, without anything that is fitted."""
STACKED: Final = "stacked"
"""A model that is fitted on the predictions of one or several runs, see `evaluation/stacking.py`."""
STACKS: Final = ("logistic", "hgb", "lgbm")
"""The models of a stacked ensemble."""
STACK_FEATURES: Final = ("predictions", "context", "metadata")
"""Groups of features of a stacked ensemble."""
STACK_COLUMNS: Final = ("age", "sex", "site")
"""Columns of metadata that a stacked ensemble reads unless others are named."""
SOUP: Final = "soup"
"""The average of the weights of several networks."""
POOLED: Final = "pooled"
"""The test predictions of all folds of a cross-validation, evaluated as one table."""
ANY_ENSEMBLE: Final = (*ENSEMBLES, STACKED, SOUP, POOLED)
BOOTSTRAP_UNITS: Final = ("lesion", "patient")
EVALUATED_PARTS: Final = ("val", "test")
"""The parts of a split that a network is not trained on."""
ACCELERATORS: Final = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS: Final = ("auto", "32-true", "bf16-mixed", "16-mixed")
WEIGHTS: Final = ("best", "last")
"""The checkpoints that every run stores."""
CONFORMAL: Final = ("lac", "aps")
"""Methods of conformal prediction."""
CLEANED: Final = ("caches", "live", "sweeps")
"""What `clean` removes, by the word that asks for it."""
RANKINGS: Final = ("entropy", "margin", "coreset")
"""Strategies of active learning: how the images that should be labelled next are chosen."""
RULES: Final = ("sensitivity_90", "sensitivity_95", "specificity_90", "specificity_95", "youden")
"""Rules by which an evaluation finds a threshold on validation: the sensitivity or specificity in percent that it has
there at least, or the greatest sum of both (Youden's index)."""
CHALLENGES: Final = ("isic2018", "isic2019", "isic2020", "isic2024", "milk10k")
"""The ISIC challenges whose csv layouts are read and written."""
PREDICTED_VALUES: Final = ("probabilities", "logits", "labels")
"""What a file of predictions may hold."""
UNMATCHED: Final = ("error", "skip")
TABLE_FORMATS: Final = ("markdown", "latex", "csv")
"""Formats of a table for a paper."""
COMPARISON_FORMATS: Final = ("text", "markdown", "latex")
FIGURE_FORMATS: Final = ("pdf", "svg", "png")
EXPORT_FORMATS: Final = ("onnx", "onnx_int8", "torch_export", "torchscript", "executorch")
EXPORTED_CALIBRATIONS: Final = (NONE, "temperature", "vector")
"""Calibration methods that an exported file can contain, because they are a simple formula."""
EXPORTED_PREPROCESSING: Final = ("inside", "outside")
NEAR_DUPLICATES: Final = ("hashes", "features")
"""Ways to find near-duplicates: by hashes of whole pictures, or by these and by local features."""
WAYS_TO_SPLIT: Final = ("grouped", "by_image", "resample_then_split")

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "task.target": TARGETS,
    "dataset.mask": MASK_MODES,
    "dataset.on_bad_image": ("error", "skip"),
    "dataset.view": VIEWS,
    "augmentation.fit": FITS,
    "augmentation.interpolation": INTERPOLATIONS,
    "augmentation.device": ("cpu", "gpu"),
    "backbone.attention": ATTENTIONS,
    "backbone.metadata": METADATA_MODES,
    "backbone.head": HEADS,
    "evaluation.tta": TTA,
    "evaluation.calibration": ANY_CALIBRATION,
    "evaluation.ensemble": ANY_ENSEMBLE,
    "evaluation.bootstrap_unit": BOOTSTRAP_UNITS,
    "trainer.accelerator": ACCELERATORS,
    "trainer.early_stopping.mode": ("auto", "max", "min"),
    "trainer.compile": (NONE, "default", "reduce-overhead", "max-autotune"),
    "split.part": ("train", "val", "test"),
    "split.near_duplicates": NEAR_DUPLICATES,
    "split.way": WAYS_TO_SPLIT,
}
"""Config key -> its allowed values."""

"""The registered options: the only classes and functions that a config may name, and where each of them may stand.

Config files travel: a colleague's job, a bundle, a checkpoint, a file of weights. Using one must not run whatever code
it names. So a `_target_` has to be an option that a shipped YAML names, in the group of that YAML; or one of the
libraries' classes below, each of which was reviewed: it reads and writes no file and takes no function. A package of
the user's own is trusted on the command line (`--trust my_package`) or through the environment variable
`LESION_EXP_TRUST` (names joined by commas), never by a config. The checks here compare names: they import nothing.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from lesion_exp.config.shipped_conf import conf_dir, option_names, shipped_targets
from lesion_exp.errors import ConfigError, UntrustedError, did_you_mean

TARGET: Final = "_target_"
TRUST_VARIABLE: Final = "LESION_EXP_TRUST"
TRANSFORM: Final = "augmentation/transform"
METRICS: Final = "metrics"
LABELS: Final = "loss.labels"
"""The key of the loss of the labels inside a loss that has another term."""
LIBRARY_OPTIONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    # Left out are the transforms that read files (FDA, HistogramMatching, PixelDistributionAdaptation, TextImage) or
    # take functions (Lambda), and those that need boxes, volumes or other images, or do not return a uint8 image.
    TRANSFORM: {
        "albumentations": (
            "AdditiveNoise", "AdvancedBlur", "Affine", "AutoContrast", "Blur", "CLAHE", "CenterCrop", "ChannelDropout",
            "ChannelShuffle", "ChromaticAberration", "CoarseDropout", "ColorJitter", "Crop", "CropAndPad",
            "CropNonEmptyMaskIfExists", "D4", "Defocus", "Downscale", "ElasticTransform", "Emboss", "Equalize",
            "Erasing", "FancyPCA", "GaussNoise", "GaussianBlur", "GlassBlur", "GridDistortion", "GridDropout",
            "GridElasticDeform", "HEStain", "HorizontalFlip", "HueSaturationValue", "ISONoise", "Illumination",
            "ImageCompression", "InvertImg", "LongestMaxSize", "MedianBlur", "Morphological", "MotionBlur",
            "MultiplicativeNoise", "NoOp", "OneOf", "OneOrOther", "OpticalDistortion", "Pad", "PadIfNeeded",
            "Perspective", "PiecewiseAffine", "PixelDropout", "PlanckianJitter", "PlasmaBrightnessContrast",
            "PlasmaShadow", "Posterize", "RGBShift", "RandomBrightnessContrast", "RandomCrop", "RandomCropFromBorders",
            "RandomFog", "RandomGamma", "RandomGravel", "RandomGridShuffle", "RandomOrder", "RandomRain",
            "RandomResizedCrop", "RandomRotate90", "RandomScale", "RandomShadow", "RandomSizedCrop", "RandomSnow",
            "RandomSunFlare", "RandomToneCurve", "Resize", "RingingOvershoot", "Rotate", "SafeRotate", "SaltAndPepper",
            "Sequential", "Sharpen", "ShiftScaleRotate", "ShotNoise", "SmallestMaxSize", "Solarize", "SomeOf",
            "Spatter", "SquareSymmetry", "Superpixels", "ThinPlateSpline", "ToGray", "ToSepia", "Transpose",
            "UnsharpMask", "VerticalFlip", "XYMasking", "ZoomBlur",
        ),
    },
    # Left out are the losses that do not take one class index an image, or take log-probabilities instead of logits.
    "loss": {"torch.nn": ("CrossEntropyLoss", "MultiMarginLoss")},
    # Left out are those for two classes or several labels at once, and those that give no single number: curves,
    # matrices, pairs of a value and its threshold.
    "metrics": {
        "torchmetrics.classification": (
            "MulticlassAUROC", "MulticlassAccuracy", "MulticlassAveragePrecision", "MulticlassCalibrationError",
            "MulticlassCohenKappa", "MulticlassEER", "MulticlassF1Score", "MulticlassFBetaScore",
            "MulticlassHammingDistance", "MulticlassHingeLoss", "MulticlassJaccardIndex", "MulticlassLogAUC",
            "MulticlassMatthewsCorrCoef", "MulticlassNegativePredictiveValue", "MulticlassPrecision",
            "MulticlassRecall", "MulticlassSpecificity",
        ),
    },
    # Left out are those that need a closure, a model, another optimizer, or calls of their own around an evaluation.
    "optimizer": {
        "torch.optim": (
            "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop",
            "SGD",
        ),
        "pytorch_optimizer": (
            "AdEMAMix", "AdaBelief", "AdaBound", "AdamP", "Adan", "CAME", "DAdaptAdam", "DiffGrad", "LARS", "LaProp",
            "Lamb", "Lion", "MADGRAD", "NovoGrad", "Prodigy", "QHAdam", "RAdam", "Ranger", "SGDP", "SGDW", "SOAP",
            "Shampoo", "StableAdamW", "Tiger", "Yogi",
        ),
    },
}  # fmt: skip
"""Group -> library -> its classes that are options of the group beside those that a shipped YAML names."""
OFFERED: Final[Mapping[str, frozenset[str]]] = {
    "backbone": frozenset({"num_classes", "image_size", "in_channels"}),
    "loss": frozenset({"class_counts"}),
    "metrics": frozenset({"num_classes"}),
    "optimizer": frozenset({"params"}),
    "pretrain": frozenset({"facts"}),
    "scheduler": frozenset({"optimizer", "total_steps", "steps_per_epoch"}),
}
"""Parameters of a group's targets that a job passes, which are therefore in no YAML."""
_STEP: Final = re.compile(r"augmentation\.(preprocess|transforms)\.[^.]+(\.transforms\.[^.]+)*")
"""Keys of transforms; transforms such as OneOf contain further ones."""
_METRIC: Final = re.compile(r"metrics\.[^.]+")
"""Keys of metrics."""
_NOT_OWN: Final = frozenset(
    {
        *sys.stdlib_module_names,
        *(
            "lesion_exp",
            "albumentations",
            "cv2",
            "hydra",
            "lightly",
            "lightning",
            "lightning_fabric",
            "mlflow",
            "numpy",
        ),
        *("omegaconf", "optuna", "pandas", "peft", "PIL", "pyarrow", "pytorch_lightning", "pytorch_optimizer", "ray"),
        *("requests", "safetensors", "scipy", "sklearn", "sqlalchemy", "timm", "torch", "torchmetrics", "torchvision"),
        *("transformers", "urllib3", "yaml"),
    }
)
"""Python itself, this package and the libraries on which it builds: nobody is advised to trust all of their code."""
_EXAMPLES: Final = {
    TRANSFORM: "albumentations.Rotate",
    METRICS: "torchmetrics.classification.MulticlassCohenKappa",
}
"""An example for each group whose options are classes of a library."""


@functools.cache
def registered_options() -> Mapping[str, frozenset[str]]:
    """Returns for each config group the dotted names of the targets that are its options."""
    found: dict[str, set[str]] = {}
    for group, key, target in shipped_targets(conf_dir()):
        own_group = group_at(f"{group}.{key}".strip(".")) if key else group
        assert own_group is not None, f"{key} of {group} is no place for an option"
        found.setdefault(own_group, set()).add(target)
    for group, libraries in LIBRARY_OPTIONS.items():
        for library, names in libraries.items():
            found.setdefault(group, set()).update(f"{library}.{name}" for name in names)
    return {group: frozenset(targets) for group, targets in found.items()}


def group_at(place: str) -> str | None:
    """Returns the group whose options are allowed at the key `place` of a config; None if no option is allowed."""
    if _STEP.fullmatch(place):
        return TRANSFORM
    if _METRIC.fullmatch(place):
        return METRICS
    if place == LABELS:
        return "loss"
    group = place.replace(".", "/")
    return None if group in (TRANSFORM, METRICS) or "." in place.removeprefix("augmentation.") else group


def is_registered(target: object, group: str | None) -> bool:
    """Returns whether `target` is an option of `group`."""
    return isinstance(target, str) and group is not None and target in registered_options().get(group, ())


def check_target(target: object, place: str, group: str | None) -> None:
    """Checks that `target` is an option of `group`, or of a package that the user trusts.

    Raises:
        ConfigError: the target is neither; `place` is the key of its node, for the message.
    """
    if not is_registered(target, group) and not is_trusted(target):
        raise _refusal(target, place, group)


def check_registered(config: Mapping[str, Any]) -> None:
    """Checks that every `_target_` in `config` is a registered option of the group of its key, or is trusted.

    Raises:
        UntrustedError: a target is of a package that is not trusted. The error names all such packages.
        ConfigError: a target is neither registered nor trusted.
    """
    refused = [
        _refusal(node[TARGET], place, group)
        for place, node, group in nodes_with_targets(config)
        if not is_registered(node[TARGET], group) and not is_trusted(node[TARGET])
    ]
    if not refused:
        return
    error = refused[0]
    if isinstance(error, UntrustedError):
        found = (package for each in refused if isinstance(each, UntrustedError) for package in each.packages)
        error.packages = tuple(dict.fromkeys(found))
    raise error


def nodes_with_targets(
    value: Any, place: str = "", within: str | None = None
) -> Iterator[tuple[str, Mapping[str, Any], str | None]]:
    """Yields every node in `value` that has a `_target_`: its key, the node, and the group whose options are allowed.

    Inside a node of a trusted package options of that node's group may stand anywhere (`within`).
    """
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        if TARGET in value:
            group = within or group_at(place)
            yield place, value, group
            within = group if is_trusted(value[TARGET]) else None
        inner = value.items()
    elif isinstance(value, (list, tuple)):
        inner = enumerate(value)
    for key, child in inner:
        yield from nodes_with_targets(child, f"{place}.{key}" if place else str(key), within)


def is_trusted(target: object) -> bool:
    """Returns whether `target` is the dotted name of something in a package that the user trusts."""
    return isinstance(target, str) and is_within(target, trusted_packages())


def is_within(name: str, packages: Iterable[str]) -> bool:
    """Returns whether `name` is, or lies in, one of `packages`."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def trusted_packages() -> tuple[str, ...]:
    """Returns the packages that `LESION_EXP_TRUST` adds to the registered options.

    Raises:
        ConfigError: one of them is not a package's name, or belongs to Python itself or to this package.
    """
    names = [name.strip() for name in os.environ.get(TRUST_VARIABLE, "").split(",")]
    for name in filter(None, names):
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"expected the name of a package to trust, got {name!r}; for example --trust my_package")
        if name.partition(".")[0] in {*sys.stdlib_module_names, "lesion_exp"}:
            raise ConfigError(
                f"expected a package of your own to trust, got {name!r}, a part of Python or of lesion_exp; wrap what "
                f"you need of it in a package of your own"
            )
    return tuple(filter(None, names))


def _refusal(target: object, place: str, group: str | None) -> ConfigError:
    package = str(target).partition(".")[0]
    if "." in str(target) and package.isidentifier() and package not in _NOT_OWN:
        where = f"a registered option of {group}" if group in registered_options() else "code that you trust"
        error = UntrustedError(
            f"expected {where}, got {target!r} in {place}.{TARGET}, which is code of the package {package}; code of "
            f"your own package runs with --trust PACKAGE, or {TRUST_VARIABLE}=PACKAGE in the environment, and never "
            f"because a config names it: if you trust this code, add --trust {package} to the command"
        )
        error.packages = (package,)
        return error
    return ConfigError(_not_registered(target, place, group))


def _not_registered(target: object, place: str, group: str | None) -> str:
    own_code = (
        f"code of your own package is allowed with --trust PACKAGE or {TRUST_VARIABLE}=PACKAGE on the command line, "
        f"never by a config"
    )
    options = registered_options().get(group or "")
    if options is None:
        return f"expected no {TARGET} at {place}, where no option is allowed, got {target!r}; remove it; {own_code}"
    own_group = next((name for name in registered_options() if is_registered(target, name)), None)
    found = f"{target!r}, an option of {own_group}," if own_group else f"{target!r}"
    if group in _EXAMPLES:
        examples = _EXAMPLES[group]
    else:
        examples = ", ".join(f"{group}={name}" for name in option_names(str(group), [conf_dir()])[:3])
    return (
        f"expected a registered option of {group}, got {found} in {place}.{TARGET}; choose one, such as "
        f"{examples}; {own_code}{did_you_mean(str(target), options)}"
    )

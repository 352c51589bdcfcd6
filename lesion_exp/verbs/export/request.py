"""The options of `export`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lesion_exp.choices import EXPORT_FORMATS, EXPORTED_CALIBRATIONS, EXPORTED_PREPROCESSING, NONE, TTA
from lesion_exp.errors import ConfigError
from lesion_exp.option import REQUIRED, Number, Truth, check_options, choice, folder, option, whole


@dataclass(frozen=True)
class ExportRequest:
    """The format of an exported network, what is part of it, and how it is checked."""

    kind: str = option(
        REQUIRED,
        choice(EXPORT_FORMATS),
        "onnx and onnx_int8 need the extra export, executorch the extra of its name",
        key="format",
    )
    output: Path = option(
        REQUIRED, folder("exported"), "folder for the file and for a json that describes its inputs and outputs"
    )
    preprocessing: str = option(
        None,
        choice(EXPORTED_PREPROCESSING),
        "inside, the file takes photographs of any size; outside, it takes normalised squares. Without it, inside; for "
        "executorch, outside",
    )
    calibration: str = option(NONE, choice(EXPORTED_CALIBRATIONS), "a calibration fitted on the validation part")
    tta: str = option(NONE, choice(TTA), "test-time augmentation, with 1, 8 or 9 passes for each image")
    check_images: int = option(
        200,
        whole(example="200"),
        "number of images on which the file is compared with the original: of the test part if the run has read it, "
        "else of validation",
    )
    tolerance: float = option(
        1e-3,
        Number(example="0.001"),
        "largest accepted difference of a probability; a larger one gives exit code 1",
    )
    max_accuracy_lost: float = option(
        0.02,
        Number(example="0.02"),
        "for onnx_int8, instead of tolerance: largest accepted loss of accuracy, as a share",
    )
    calibration_images: int = option(
        256, whole(example="256"), "number of images of the training part from which onnx_int8 takes its ranges"
    )
    force: bool = option(False, Truth(), "replace an existing file")
    places: Mapping[str, Path] = field(default_factory=dict)
    """Where data of the run are now that have moved, by the keys of its job, see `MovedData`."""

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: an option does not accept its value, or two options contradict each other.
        """
        check_options(self)
        usual = "outside" if self.kind == "executorch" else "inside"
        object.__setattr__(self, "preprocessing", self.preprocessing or usual)
        if self.kind == "executorch" and self.preprocessing == "inside":
            raise ConfigError(
                "expected preprocessing=outside with format=executorch, got inside: a program for a phone reserves its "
                "memory for one size of image; scale the photograph in the app, as the file's json describes"
            )

    @property
    def inside(self) -> bool:
        """Whether the file takes photographs of any size."""
        return self.preprocessing == "inside"

    def check_preparation(self, prepared: dict[str, Any], others: tuple[str, ...]) -> None:
        """Checks that the preprocessing of a network can be part of the file, if `preprocessing` is `inside`.

        Args:
            prepared: the preprocessing, as in the network's card.
            others: the inputs beside the images, see `other_inputs`.

        Raises:
            ConfigError: it cannot be part of the file.
        """
        if not self.inside:
            return
        from lesion_exp.augmentation.fit import AVERAGE_FROM
        from lesion_exp.verbs.export.network import FITS

        reasons = [f"a preprocessing step of its own ({name})" for name in prepared["steps"]]
        reasons += [f"lesion masks (dataset.mask={prepared['mask']})"] if prepared["mask"] != "none" else []
        reasons += ["a second photograph"] if "clinical" in others else []
        reasons += [f"augmentation.fit={prepared['fit']}"] if prepared["fit"] not in FITS else []
        way = prepared.get("interpolation", "bilinear")
        reasons += [f"augmentation.fit={prepared['fit']} with augmentation.interpolation={way}"] if (
            way != "bilinear" and prepared["fit"] == "squash") else []  # fmt: skip
        reasons += (
            [f"dataset.store_size={prepared['short_side']}, which is scaled down twice by averaging"]
            if prepared["short_side"] >= AVERAGE_FROM * prepared["image_size"]
            else []
        )
        if reasons:
            raise ConfigError(
                f"expected preprocessing=outside for this network, got inside: it has {' and '.join(reasons)}, which "
                f"the file cannot compute; the json beside an exported file describes its inputs"
            )

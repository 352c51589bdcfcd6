"""What somebody wants exported, and how it is checked: the options of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesion_exp.choices import EXPORT_FORMATS, EXPORTED_CALIBRATIONS, EXPORTED_PREPROCESSING, NONE, TTA
from lesion_exp.errors import ConfigError
from lesion_exp.option import REQUIRED, Number, Place, Truth, check_options, choice, folder, option, whole


@dataclass(frozen=True)
class ExportRequest:
    """What `export` is asked for."""

    kind: str = option(
        REQUIRED,
        choice(EXPORT_FORMATS),
        "onnx and onnx_int8 need the extra export, executorch the extra of its name",
        key="format",
    )
    output: Path = option(
        REQUIRED, folder("exported"), "folder for the file, and a json that says what goes in and what comes out"
    )
    preprocessing: str = option(
        None,
        choice(EXPORTED_PREPROCESSING),
        "the file takes photographs of any size, or normalised squares; without it inside, for executorch outside",
    )
    calibration: str = option(NONE, choice(EXPORTED_CALIBRATIONS), "as fitted on validation")
    tta: str = option(NONE, choice(TTA), "test-time augmentation, which costs 1, 8 or 9 passes an image")
    check_images: int = option(
        200,
        whole(example="200"),
        "images of the test part (validation, if the run has not read it) on which the file is compared",
    )
    tolerance: float = option(
        1e-3,
        Number(example="0.001"),
        "largest difference of a probability; a file with a larger one ends with exit code 1",
    )
    max_accuracy_lost: float = option(
        0.02, Number(example="0.02"), "of onnx_int8, instead of tolerance: the largest loss of accuracy, as a share"
    )
    calibration_images: int = option(
        256, whole(example="256"), "images of the training part from which onnx_int8 takes its ranges"
    )
    data_root: Path | None = option(
        None, Place("DIR", "DIR"), "where the run's data lie now, if they have moved", key="dataset.root"
    )
    force: bool = option(False, Truth(), "replace a file that is there")

    def __post_init__(self) -> None:
        """Refuses values that an option does not take, and those that contradict each other.

        Raises:
            ConfigError: one of the keys.
        """
        check_options(self)
        usual = "outside" if self.kind == "executorch" else "inside"
        object.__setattr__(self, "preprocessing", self.preprocessing or usual)
        if self.kind == "executorch" and self.preprocessing == "inside":
            raise ConfigError(
                "expected preprocessing=outside with format=executorch, got inside: a program for a phone plans its "
                "memory for one size of image; let the app scale the photograph as the file's json says"
            )

    @property
    def inside(self) -> bool:
        """Whether the file takes photographs of any size."""
        return self.preprocessing == "inside"

    def check_preparation(self, prepared: dict[str, Any], others: tuple[str, ...]) -> None:
        """Checks that the preprocessing of a network, which its card describes, can be part of the file if it is to be.

        Raises:
            ConfigError: it cannot.
        """
        if not self.inside:
            return
        from lesion_exp.augmentation.fit import AVERAGE_FROM
        from lesion_exp.verbs.export.photograph import FITS

        reasons = [f"a preprocessing step of its own ({name})" for name in prepared["steps"]]
        reasons += [f"lesion masks (dataset.mask={prepared['mask']})"] if prepared["mask"] != "none" else []
        reasons += ["a second photograph"] if "clinical" in others else []
        reasons += [f"augmentation.fit={prepared['fit']}"] if prepared["fit"] not in FITS else []
        reasons += (
            [f"dataset.store_size={prepared['short_side']}, which is scaled down twice by averaging"]
            if prepared["short_side"] >= AVERAGE_FROM * prepared["image_size"]
            else []
        )
        if reasons:
            raise ConfigError(
                f"expected preprocessing=outside for this network, got inside: it has {' and '.join(reasons)}, which "
                f"the file cannot do; its json says what it must be given"
            )

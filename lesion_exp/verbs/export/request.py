"""What somebody wants exported, and how it is checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lesion_exp.augmentation.fit import AVERAGE_FROM
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.evaluation.calibrator import DEFAULT_CALIBRATION
from lesion_exp.evaluation.tta import tta_views
from lesion_exp.verbs.export.photograph import FITS

FORMATS: Final = ("onnx", "onnx_int8", "torch_export", "torchscript", "executorch")
PREPROCESSING: Final = ("inside", "outside")
CALIBRATIONS: Final = ("none", "temperature", "vector")
"""Those that are a line of arithmetic; isotonic regression is a table."""


@dataclass(frozen=True)
class ExportRequest:
    """What `export` is asked for."""

    kind: str
    """One of `FORMATS`."""
    output: Path
    """Folder for the file and what is known of it."""
    preprocessing: str = "inside"
    calibration: str = DEFAULT_CALIBRATION
    tta: str = "none"
    check_images: int = 200
    """Images of the test part (or validation) on which the file is compared with the original."""
    calibration_images: int = 256
    """Images of the training part from which int8 takes its ranges."""
    tolerance: float = 1e-3
    """Largest difference of a probability; of int8, the largest loss of accuracy is `max_accuracy_lost`."""
    max_accuracy_lost: float = 0.02
    data_root: Path | None = None
    """Where the run's data lie now, if they have moved."""
    force: bool = False
    """Whether to replace files that are there."""

    def __post_init__(self) -> None:
        """Refuses what is no value of its key.

        Raises:
            ConfigError: one of the keys.
        """
        check_choice("format", self.kind, FORMATS)
        check_choice("preprocessing", self.preprocessing, PREPROCESSING)
        check_choice("calibration", self.calibration, CALIBRATIONS)
        tta_views(self.tta)
        if self.output.is_file():
            raise ConfigError(f"expected a folder as output, got the file {self.output}; name a folder")
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

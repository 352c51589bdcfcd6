"""The formats of an exported network: their files, the packages that they need, and where they are written and run."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lesion_exp.errors import ConfigError, not_installed
from lesion_exp.verbs.export.request import ExportRequest


@dataclass(frozen=True)
class Format:
    """How a network is written to a file, and how the file is run."""

    file: str
    """Name of the file."""
    write_target: str
    """`module:function`, imported when needed; so is `open_target`."""
    open_target: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    """The extra of this project that installs the packages."""
    largest_batch: int = 1024
    """Largest number of images in a batch."""

    @property
    def write(self) -> Callable[..., None]:
        """The function that writes a file: (network, examples, path, facts), and batches for int8."""
        return _function(self.write_target)

    @property
    def open(self) -> Callable[..., Any]:
        """The function that opens the file at a path; it returns a `Runner`."""
        return _function(self.open_target)

    def check_installed(self) -> None:
        """Checks that the packages are installed.

        Raises:
            ConfigError: a package is missing.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise not_installed(f"lesion-exp[{self.extra}]", f"format {self.file} ({package})")


_ONNX: Final = ("onnx", "onnxscript", "onnxruntime")

FORMATS: Final = {
    "onnx": Format("model.onnx", "onnx_file:write_onnx", "onnx_file:open_onnx", _ONNX, "export"),
    "onnx_int8": Format("model_int8.onnx", "onnx_file:write_int8", "onnx_file:open_onnx", _ONNX, "export"),
    "torch_export": Format("model.pt2", "program:write_program", "program:open_program"),
    "torchscript": Format("model.torchscript.pt", "program:write_torchscript", "program:open_torchscript"),
    "executorch": Format(
        "model.pte", "executorch_file:write_executorch", "executorch_file:open_executorch", ("executorch",),
        "executorch", 15,
    ),
}  # fmt: skip


def _function(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"lesion_exp.verbs.export.{module}"), name)
    return found


def path_of(request: ExportRequest) -> Path:
    """Returns the file that `request` writes.

    Raises:
        ConfigError: a package is missing, or the file exists already.
    """
    form = FORMATS[request.kind]
    form.check_installed()
    path = request.output / form.file
    if path.exists() and not request.force:
        raise ConfigError(
            f"expected a new file, but {path} exists; name another output=, or use force=true to replace it"
        )
    return path

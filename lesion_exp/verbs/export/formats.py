"""The formats: how a file is written and run, and which packages that takes."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.errors import not_installed


@dataclass(frozen=True)
class Format:
    """How a network is written to a file, and how that is run."""

    file: str
    """Its name."""
    write_target: str
    """`module:function`, imported when it is asked for."""
    open_target: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    """Of this project's, which brings the packages."""
    largest_batch: int = 1024
    """Images at once."""

    @property
    def write(self) -> Callable[..., None]:
        """Writes the file: (network, examples, path, facts), and for int8 the batches that give its ranges."""
        return _function(self.write_target)

    @property
    def open(self) -> Callable[..., Any]:
        """Opens the file at a path: a `Runner`."""
        return _function(self.open_target)

    def check_installed(self) -> None:
        """Checks that the packages are installed.

        Raises:
            ConfigError: one is not.
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

"""Writes and runs programs of torch: `torch.export` (.pt2) and TorchScript."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lesion_exp.verbs.export.formats import Facts
from lesion_exp.verbs.export.network import ExportedNetwork

Arrays = Mapping[str, npt.NDArray[Any]]
"""The inputs of a network, by their names."""
Runner = Callable[[Arrays], npt.NDArray[np.float32]]
"""Runs an exported file: from its inputs to probabilities, float32 (N, C)."""

FACTS_FILE: Final = "lesion_exp.json"
"""Name of the facts among the extra files of a program."""
_LARGEST_BATCH: Final = 1024
_SMALLEST_SIDE: Final = 8
_LARGEST_SIDE: Final = 16384


def dynamic_shapes(network: ExportedNetwork, most: int = _LARGEST_BATCH) -> tuple[Any, ...]:
    """Returns the sizes of the inputs that may vary, for `torch.export`."""
    batch = torch.export.Dim("batch", min=1, max=most)
    sides = {
        dim: torch.export.Dim(name, min=_SMALLEST_SIDE, max=_LARGEST_SIDE)
        for dim, name in ((1, "height"), (2, "width"))
    }
    images = {0: batch} if network.photograph is None else {0: batch, **sides}
    others = tuple({0: batch} for _ in network.others)
    return (images, others) if others else (images,)


def export_program(network: nn.Module, examples: tuple[Tensor, ...], shapes: tuple[Any, ...]) -> Any:
    """Returns the `torch.export.ExportedProgram` of `network`."""
    with quiet_exporter():
        return torch.export.export(network, examples, dynamic_shapes=shapes)


def write_program(network: ExportedNetwork, examples: tuple[Tensor, ...], path: Path, facts: Facts) -> None:
    """Writes a .pt2 file, which `torch.export.load` reads; the facts are among its extra files."""
    program = export_program(network, examples, dynamic_shapes(network))
    torch.export.save(program, str(path), extra_files={FACTS_FILE: json.dumps(facts)})


def open_program(path: Path) -> Runner:
    """Runs the program on the CPU."""
    with quiet_exporter():
        module = torch.export.load(str(path)).module()
    return _runner(module)


def write_torchscript(network: ExportedNetwork, examples: tuple[Tensor, ...], path: Path, facts: Facts) -> None:
    """Writes a traced module, which `torch.jit.load` and C++ read; the facts are among its extra files."""
    with quiet_exporter(), torch.no_grad():
        traced = torch.jit.trace(network, examples, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), str(path), _extra_files={FACTS_FILE: json.dumps(facts)})


def open_torchscript(path: Path) -> Runner:
    """Runs the traced module on the CPU."""
    with quiet_exporter():
        return _runner(torch.jit.load(str(path)))  # type: ignore[no-untyped-call]


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silences warnings and logs of exporters in the block; errors are still raised."""
    names = ("torch.onnx", "torch.export", "onnxscript", "root", "executorch")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _runner(module: Any) -> Runner:
    def run(arrays: Arrays) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = module(*map(torch.from_numpy, arrays.values())).numpy()
        return found

    return run

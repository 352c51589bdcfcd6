"""ExecuTorch: a program for phones, computed by XNNPACK where possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lesion_exp.verbs.export.formats import Facts
from lesion_exp.verbs.export.network import ExportedNetwork
from lesion_exp.verbs.export.program import Arrays, Runner, dynamic_shapes, export_program, quiet_exporter

LARGEST_BATCH: Final = 15
"""Largest batch; ExecuTorch 1.5 plans memory for no more, even if asked to."""


def write_executorch(network: ExportedNetwork, examples: tuple[Tensor, ...], path: Path, facts: Facts) -> None:
    """Writes a .pte file, which has no place for `facts`; these are only in the json beside it."""
    with quiet_exporter():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = export_program(network, examples, dynamic_shapes(network, LARGEST_BATCH))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)


def open_executorch(path: Path) -> Runner:
    """Runs the file by ExecuTorch's runtime on the CPU."""
    with quiet_exporter():
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None, "every program has it"

    def run(arrays: Arrays) -> Any:
        return np.asarray(method.execute([torch.from_numpy(values) for values in arrays.values()])[0])

    return run

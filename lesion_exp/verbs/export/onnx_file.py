"""ONNX: written from the exported program, run by ONNX Runtime; int8 by static quantisation."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lesion_exp.verbs.export.formats import Facts, as_texts
from lesion_exp.verbs.export.network import IMAGES, OUTPUT, ExportedNetwork
from lesion_exp.verbs.export.program import Arrays, Runner, dynamic_shapes, quiet_exporter

_OPSET: Final = 20
_SQUARES: Final = "squares"
_PREFIX: Final = "photograph/"
_INT8: Final = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")
"""Operators that are quantised; others, such as normalisations and the softmax, remain in float.

`Clip` is ReLU6. Unless it is among them, the 256 steps of the convolution before it span all that it cuts off.
"""


class _Normalised(nn.Module):
    """The graph before a quantised network: from photographs to normalised squares."""

    def __init__(self, network: ExportedNetwork) -> None:
        super().__init__()
        self.photograph = network.photograph
        self.scale, self.shift = network.scale, network.shift

    def forward(self, images: Tensor) -> Tensor:
        """Normalised squares of photographs."""
        assert self.photograph is not None, "there is a photograph"
        squares: Tensor = self.photograph(images) * self.scale + self.shift
        return squares


class _Reader:
    """Gives the quantiser one batch after another."""

    def __init__(self, batches: Sequence[Arrays]) -> None:
        self._waiting = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        """Returns the next batch; None after the last."""
        batch = next(self._waiting, None)
        return None if batch is None else dict(batch)


def write_onnx(network: ExportedNetwork, examples: tuple[Tensor, ...], path: Path, facts: Facts) -> None:
    """Writes `network` for batches of any size, with `facts` as metadata."""
    import onnx

    model = _graph(network, examples, [IMAGES, *network.others], OUTPUT, dynamic_shapes(network))
    _describe(model, facts)
    onnx.save(model, str(path))


def write_int8(
    network: ExportedNetwork, examples: tuple[Tensor, ...], path: Path, facts: Facts, batches: Sequence[Arrays]
) -> None:
    """Writes `network` as `write_onnx` does, with weights and activations quantised to 8-bit integers.

    The ranges are those on `batches` of normalised squares. The step from photographs to squares is not quantised.
    """
    import onnx

    core = copy.copy(network)
    core._modules = {**network._modules, "photograph": None}
    name = IMAGES if network.photograph is None else _SQUARES
    squares = (torch.from_numpy(batches[0][IMAGES][:2]), *examples[1:])
    model = _graph(core, squares, [name, *network.others], OUTPUT, dynamic_shapes(core))
    model = _quantised(
        model, [{name: batch[IMAGES], **{key: batch[key] for key in network.others}} for batch in batches]
    )
    if network.photograph is not None:
        shapes = dynamic_shapes(network)[:1]
        model = _joined(_graph(_Normalised(network), examples[:1], [IMAGES], _SQUARES, shapes), model)
    _describe(model, facts)
    onnx.save(model, str(path))


def open_onnx(path: Path) -> Runner:
    """Runs the file by ONNX Runtime on the CPU, with the number of threads of torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(arrays: Arrays) -> Any:
        return session.run([OUTPUT], dict(arrays))[0]

    return run


def _graph(
    module: nn.Module, examples: tuple[Tensor, ...], inputs: list[str], output: str, shapes: tuple[Any, ...]
) -> Any:
    with quiet_exporter():
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            opset_version=_OPSET,
            input_names=inputs,
            output_names=[output],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None, "the exporter raises where it fails"
    return program.model_proto


def _quantised(model: Any, batches: Sequence[Arrays]) -> Any:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quiet_exporter():
        floats, inferred, int8 = (str(Path(folder) / f"{stage}.onnx") for stage in ("float", "inferred", "int8"))
        onnx.save(model, floats)
        quant_pre_process(floats, inferred, skip_symbolic_shape=True)
        quantize_static(
            inferred,
            int8,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_INT8),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(int8)


def _joined(before: Any, after: Any) -> Any:
    """Joins the graph `before`, which makes squares, and the graph `after`, which takes them."""
    from onnx import compose

    before.ir_version = after.ir_version
    first = compose.add_prefix(before, _PREFIX, rename_inputs=False)
    return compose.merge_models(first, after, [(f"{_PREFIX}{_SQUARES}", _SQUARES)])


def _describe(model: Any, facts: Facts) -> None:
    del model.metadata_props[:]
    model.producer_name, model.producer_version = "lesion_exp", str(facts["version"])
    model.doc_string = f"{', '.join(facts['classes'])}; {facts['use']}; licence of the data: {facts['licence']}"
    for key, text in as_texts(facts).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text

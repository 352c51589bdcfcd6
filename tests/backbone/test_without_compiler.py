"""torchvision is imported without torch's compiler, and both work afterwards as they do otherwise."""

import subprocess
import sys

import pytest

NETWORKS = """
import sys, torch
if sys.argv[1] == "plain":
    import torchvision
else:
    from lesion_exp.backbone.without_compiler import torchvision_library
    torchvision = torchvision_library()
    assert torchvision is torchvision_library() is sys.modules["torchvision"]
    assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
torch.manual_seed(0)
network = torchvision.models.get_model("resnet18", weights=None).eval()
pixels = torch.rand(2, 3, 40, 40)
with torch.inference_mode():
    print(network(pixels).double().sum().item())
print(torchvision.ops.roi_align(pixels, [torch.tensor([[1.0, 1.0, 6.0, 5.0]])] * 2, 4).double().sum().item())
print(torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu"))
import torch._dynamo
assert torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.__file__
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).sum().item())
"""
OTHERS = """
import sys
from lesion_exp.backbone.without_compiler import _StandIn, torchvision_library

assert torchvision_library() is sys.modules["torchvision"]
import torch._dynamo
assert not [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]
print(sys.modules["torchvision"].found, torch._dynamo.__file__ is not None)
"""
CHANGED = {
    "another function": "from torch._dynamo import disable; found = disable.__module__",
    "another module": "import torch._dynamo.decorators as found; found = found.__name__",
    "another name of the same module": "from torch._dynamo.utils import counters; found = type(counters).__name__",
    "a module from a file": "import torch._dynamo.utils as utils; assert utils.__file__; found = utils.__name__",
}
"""Other torchvisions, by what they ask torch's compiler for while they are imported."""


def said(code, *words):
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_results_are_those_of_the_whole_import():
    assert said(NETWORKS, "without the compiler") == said(NETWORKS, "plain")


@pytest.mark.slow
@pytest.mark.parametrize("source", CHANGED.values(), ids=CHANGED)
def test_a_torchvision_that_asks_for_anything_else_gets_the_compiler_itself(source, tmp_path):
    (tmp_path / "torchvision.py").write_text(source)
    plain = said(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import torchvision; print(torchvision.found)")
    assert said(f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + OTHERS) == f"{plain.strip()} True\n"

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
import importlib, sys
from lesion_exp.backbone import without_compiler

real = importlib.import_module
def importing(name, *rest):  # a torchvision that asks for more than the one function
    if name == "torchvision":
        from torch._dynamo import disable
        assert not isinstance(sys.modules["torch._dynamo"], without_compiler._StandIn)
        print(disable.__module__)
    return real(name, *rest)
without_compiler.importlib = type("", (), {"import_module": staticmethod(importing)})
without_compiler.torchvision_library()
"""


def said(code, *words):
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_results_are_those_of_the_whole_import():
    assert said(NETWORKS, "without the compiler") == said(NETWORKS, "plain")


@pytest.mark.slow
def test_a_torchvision_that_asks_for_anything_else_gets_the_compiler_itself():
    assert said(OTHERS).startswith("torch._dynamo")

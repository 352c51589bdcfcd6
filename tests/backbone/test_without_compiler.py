"""torchvision is imported without torch's compiler, and both work afterwards as they do otherwise."""

import json
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
PLAIN = "import torchvision; print(torchvision.found)"
IN_FOLDERS = """
import json, os, sys
import torch  # once for all processes

for folder, code in json.loads(sys.argv[1]):
    if os.fork() == 0:
        sys.path.insert(0, folder)
        exec(code, {})
        sys.stdout.flush()
        os._exit(0)
    os.wait()
    print("end", flush=True)
"""
"""Executes each code in a process of its own, in which the modules of its folder come first."""
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


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of the `CHANGED` gets where it is imported plainly, and by `torchvision_library`."""
    calls = []
    for source in CHANGED.values():
        folder = tmp_path_factory.mktemp("changed")
        (folder / "torchvision.py").write_text(source)
        calls += [(str(folder), PLAIN), (str(folder), OTHERS)]
    answers = said(IN_FOLDERS, json.dumps(calls)).split("end\n")
    return dict(zip(CHANGED, zip(answers[::2], answers[1::2], strict=False), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_a_torchvision_that_asks_for_anything_else_gets_the_compiler_itself(name, found):
    plain, other = found[name]
    assert other == f"{plain.strip()} True\n"

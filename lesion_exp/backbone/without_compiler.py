"""Imports torchvision without torch's compiler, whose import takes longer and more memory than all the rest of it.

`torchvision.ops` asks `torch._dynamo.utils` for one function, which it calls in `roi_align` alone. While torchvision is
imported, a stand-in answers in the place of both modules. It has this function, and imports the real modules when the
function is called or when anything else is asked for. Afterwards nothing of it is left among the modules.

Neither library offers a way to leave the compiler out. Measured once with torch 2.15 and torchvision 0.29: torch takes
1.8 s of a processor and 535 MB of resident memory; torchvision then takes 1.64 s and 162 MB, and with the stand-in
0.21 s and 16 MB. These do not help:

- `import torchvision.models` runs the `__init__` of torchvision, which imports its operations: 1.65 s, 162 MB;
- `TORCH_COMPILE_DISABLE=1` turns `torch.compile` off and imports the compiler all the same: 1.74 s, 162 MB;
- a module of `importlib.util.LazyLoader` is loaded by `from MODULE import NAME`, which is what `torchvision.ops` does.

So the stand-in fits the torchvision of today. One that asks for more gets the real modules, and one that cannot be
imported beside a stand-in is imported again without it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, Final

_LIBRARY: Final = "torchvision"
_COMPILER: Final = "torch._dynamo"
_UTILS: Final = "torch._dynamo.utils"
_ASKED_FOR: Final = "is_compile_supported"


def torchvision_library() -> ModuleType:
    """Returns torchvision, which is imported unless that was done before."""
    known = sys.modules.get(_LIBRARY)
    if known is not None or _COMPILER in sys.modules:
        return importlib.import_module(_LIBRARY)
    for name in (_COMPILER, _UTILS):
        sys.modules[name] = _StandIn(name)
    try:
        return importlib.import_module(_LIBRARY)
    except Exception:  # whatever a torchvision of another version makes of a stand-in
        if not _stand_ins():
            raise
    finally:
        _remove_stand_ins()
    for name in [name for name in sys.modules if name.partition(".")[0] == _LIBRARY]:
        del sys.modules[name]
    return importlib.import_module(_LIBRARY)


class _StandIn(ModuleType):
    """Stands for a module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        if name == _UTILS:
            setattr(self, _ASKED_FOR, _is_compile_supported)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _is_compile_supported(device_type: Any) -> Any:
    return getattr(_real(_UTILS), _ASKED_FOR)(device_type)


def _real(name: str) -> ModuleType:
    _remove_stand_ins()
    return importlib.import_module(name)


def _stand_ins() -> list[str]:
    return [name for name in (_COMPILER, _UTILS) if isinstance(sys.modules.get(name), _StandIn)]


def _remove_stand_ins() -> None:
    for name in _stand_ins():
        del sys.modules[name]

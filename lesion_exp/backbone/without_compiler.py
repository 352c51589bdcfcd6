"""Imports torchvision without torch's compiler, whose import takes longer and more memory than all the rest of it.

`torchvision.ops` asks `torch._dynamo.utils` for one function, which it calls in `roi_align` alone. While torchvision is
imported, a stand-in answers in the place of both modules. It has this function, and imports the real modules when the
function is called or when anything else is asked for. Afterwards nothing of it is left among the modules.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, Final

_COMPILER: Final = "torch._dynamo"
_UTILS: Final = "torch._dynamo.utils"
_ASKED_FOR: Final = "is_compile_supported"


def torchvision_library() -> ModuleType:
    """Returns torchvision, which is imported unless that was done before."""
    known = sys.modules.get("torchvision")
    if known is not None or _COMPILER in sys.modules:
        return importlib.import_module("torchvision")
    for name in (_COMPILER, _UTILS):
        sys.modules[name] = _StandIn(name)
    try:
        return importlib.import_module("torchvision")
    finally:
        _remove_stand_ins()


class _StandIn(ModuleType):
    """Stands for a module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
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


def _remove_stand_ins() -> None:
    for name in (_COMPILER, _UTILS):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]

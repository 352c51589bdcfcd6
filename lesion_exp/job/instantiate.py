"""The one place where a config becomes objects, and the only targets that it may name.

Config files travel: a colleague's job, a sweep's cell, a bundle. Running one must not run whatever code it names, so a
`_target_` has to be a class or function that is *defined* in a room of this package, or a class defined in one of the
libraries below. A package of the user's own is trusted on the command line (`--trust my_package`) or through the
environment variable `LESION_EXP_TRUST` (names joined by commas), never by a config. Hydra's own `instantiate` is not
used: it looks the name up a second time, copies what it is given into config containers (tensors too), and would have
to be imported by every process that trains.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any, Final

from lesion_exp.errors import ConfigError, UserError, nearest, not_installed

TARGET: Final = "_target_"
TRUST_VARIABLE: Final = "LESION_EXP_TRUST"
OWN_ROOMS: Final = tuple(
    f"lesion_exp.{room}"
    for room in (
        "augmentation",
        "backbone",
        "dataset",
        "evaluation",
        "explanation",
        "loss",
        "optimizer",
        "sampler",
        "scheduler",
        "split",
        "sweep.launcher",
        "sweep.search",
    )
)
LIBRARIES: Final = {
    "torch.optim.lr_scheduler": "scheduler",
    "torch.optim": "optimizer",
    "pytorch_optimizer": "optimizer",
    "albumentations": "augmentation",
    "torchvision.transforms": "augmentation",
    "pytorch_lightning.callbacks": "trainer.callbacks",
}
"""Libraries whose classes (not functions: some of them load files) may be targets, and the node they belong to."""
_DOTTED_NAME: Final = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")
_HYDRA_KEYS: Final = ("_args_", "_partial_", "_recursive_", "_convert_")


def instantiate(node: Mapping[str, Any], **passed: Any) -> Any:
    """The object that `node` describes: its `_target_` called with its other keys and `passed`.

    Nodes inside it that have a `_target_` are instantiated first; other containers arrive as plain copies.

    Raises:
        ConfigError: a target that is not allowed or does not exist, a key that is not its parameter, a parameter that
            is missing, or a value that a library's class refuses.
    """
    if not isinstance(node, Mapping) or TARGET not in node:
        raise ConfigError(f"expected a config node with a _target_, got {node!r}; choose an option of its group")
    return _call(node, _node_name(node[TARGET]), passed)


def resolve_target(path: str, where: str = "") -> Callable[..., Any]:
    """The class or function at the dotted `path`, checked against the allowlist; `where` is its key, for the message.

    Raises:
        ConfigError: it is not allowed, or does not exist.
    """
    where = where or TARGET
    if not isinstance(path, str) or not _DOTTED_NAME.fullmatch(path) or not _is_allowed(path):
        raise _refusal(path, where)
    module_name, _, name = path.rpartition(".")
    module = _import(module_name, path, where)
    found = getattr(module, name, None)
    if found is None:
        raise ConfigError(
            f"expected a class or function of {module_name}, got {path} in {where}; "
            f"{nearest(name, _targets_in(module))}"
        )
    if not _is_target(found):
        raise _refusal(path, where)
    target: Callable[..., Any] = found
    return target


def check_targets(config: Mapping[str, Any], extra: Mapping[str, Collection[str]] | None = None) -> None:
    """Nothing, if every `_target_` in `config` is allowed and every key beside it is one of its parameters.

    It calls none of them, so a job can do this before it reads any data. `extra` names keys of a node that its target
    does not get (`{"dataset": {"filter", "limit"}}`).

    Raises:
        ConfigError: as `instantiate`.
    """
    for where, node in _nodes(config, ""):
        target = resolve_target(node[TARGET], f"{where}.{TARGET}")
        own_keys = set(node) - {TARGET} - set((extra or {}).get(where, ()))
        _check_keywords(target, own_keys, set(), where)
        _check_nulls(target, {key: node[key] for key in own_keys}, where)


def check_installed(config: Mapping[str, Any]) -> None:
    """Nothing, if the optional package that a target's module names as its `PACKAGE` is there, for every target.

    Raises:
        ConfigError: one is not; the message says how to install it.
    """
    for where, node in _nodes(config, ""):
        target = resolve_target(node[TARGET], f"{where}.{TARGET}")
        package = getattr(sys.modules[target.__module__], "PACKAGE", None)
        if package is not None and importlib.util.find_spec(package) is None:
            raise not_installed(package, f"the {where} {target.__name__}")


def trusted_packages() -> tuple[str, ...]:
    """The packages that `LESION_EXP_TRUST` adds to the allowlist.

    Raises:
        ConfigError: one of them is not a package's name, or belongs to Python itself.
    """
    names = [name.strip() for name in os.environ.get(TRUST_VARIABLE, "").split(",")]
    for name in filter(None, names):
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"expected the name of a package to trust, got {name!r}; for example --trust my_package")
        if name.partition(".")[0] in sys.stdlib_module_names:
            raise ConfigError(
                f"expected a package of your own to trust, got {name!r}, a part of Python; wrap what you need of it in "
                f"a package of your own"
            )
    return tuple(filter(None, names))


def _call(node: Mapping[str, Any], where: str, passed: Mapping[str, Any]) -> Any:
    for key in _HYDRA_KEYS:
        if key in node:
            raise ConfigError(f"expected only _target_ and its parameters in {where}, got {key}; take it out")
    target = resolve_target(node[TARGET], f"{where}.{TARGET}")
    if inspect.isabstract(target):
        left = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        raise ConfigError(f"expected {node[TARGET]} in {where} to define {left}, which its base class leaves to it")
    arguments = {key: _build(value, f"{where}.{key}") for key, value in node.items() if key != TARGET}
    _check_keywords(target, set(arguments), set(passed), where)
    arguments.update(passed)
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"expected every parameter of {node[TARGET]} in {where}, but it is {error}") from error
    try:
        return target(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError, Warning) as error:
        if not _within(target.__module__, LIBRARIES):
            raise  # our own code, or the user's: its traceback says more than a message could
        raise ConfigError(f"expected values that {node[TARGET]} accepts in {where}, it says: {error}") from error


def _build(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return _call(value, where, {})
        return {key: _build(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_build(inner, f"{where}.{position}") for position, inner in enumerate(value)]
    return value


def _nodes(value: Any, where: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        if TARGET in value:
            yield where, value
        inner = value.items()
    elif isinstance(value, (list, tuple)):
        inner = enumerate(value)
    for key, child in inner:
        yield from _nodes(child, f"{where}.{key}" if where else str(key))


def _check_keywords(target: Callable[..., Any], own: set[str], passed: set[str], where: str) -> None:
    parameters = inspect.signature(target).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY}
    name = f"{target.__module__}.{target.__qualname__}"
    for key in sorted(own - named):
        if key in _HYDRA_KEYS:
            raise ConfigError(f"expected only _target_ and its parameters in {where}, got {key}; take it out")
        raise ConfigError(f"expected a parameter of {name}, got {where}.{key}; {nearest(key, named - passed)}")
    if passed - named:
        raise ConfigError(
            f"expected {name} to take {', '.join(sorted(passed - named))}, which a job passes to {where}; add it to "
            f"its signature"
        )
    if own & passed:
        raise ConfigError(
            f"expected {where} without {', '.join(sorted(own & passed))}, which follows from the data; take it out"
        )


def _check_nulls(target: Callable[..., Any], own: Mapping[str, Any], where: str) -> None:
    """Refuses null for a parameter of our own whose annotation says that it is never None."""
    if not _within(target.__module__, OWN_ROOMS):
        return
    for name, parameter in inspect.signature(target).parameters.items():
        kind = str(parameter.annotation)
        if name in own and own[name] is None and not any(word in kind for word in ("None", "Any", "object")):
            raise ConfigError(f"expected a value for {where}.{name}, got null; leave it out for the default")


def _import(module_name: str, path: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        parent, _, name = missing.rpartition(".")
        if hasattr(sys.modules.get(parent), name):  # what a module imports is no module of its own: ...loss.focal.os
            raise _refusal(path, where) from error
        if module_name == missing or module_name.startswith(f"{missing}."):
            hint = "look at its spelling"
            if not _within(module_name, OWN_ROOMS):
                hint += f", install {missing.partition('.')[0]}, or name the folder it lies in with PYTHONPATH=DIR"
            raise ConfigError(
                f"expected a module, got {module_name} in {where}, which does not exist; {hint}"
            ) from error
        raise ConfigError(
            f"expected what {where} needs to be installed, but there is no package {missing}; pip install {missing}"
        ) from error


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_allowed(name: str) -> bool:
    return _within(name, (*OWN_ROOMS, *LIBRARIES, *trusted_packages()))


def _is_target(found: object) -> bool:
    """Whether `found` may be called: where it is defined counts, not the module through which it was reached."""
    if not isinstance(found, (type, FunctionType)) or not _is_allowed(found.__module__):
        return False
    return isinstance(found, type) or _within(found.__module__, (*OWN_ROOMS, *trusted_packages()))


def _targets_in(module: ModuleType) -> list[str]:
    return [name for name, found in vars(module).items() if not name.startswith("_") and _is_target(found)]


def _node_name(target: object) -> str:
    """The config key under which a target of this kind usually lies."""
    text = str(target)
    if _within(text, OWN_ROOMS):
        return text.removeprefix("lesion_exp.sweep.").removeprefix("lesion_exp.").split(".")[0]
    return next((node for library, node in LIBRARIES.items() if _within(text, [library])), text)


def _refusal(path: object, where: str) -> ConfigError:
    return ConfigError(
        f"expected a class or function defined in this package's own rooms ({', '.join(OWN_ROOMS)}), a class of "
        f"{', '.join(LIBRARIES)}, or something of a package that you trust, got {path!r} in {where}; code of your own "
        f"is allowed with --trust PACKAGE or {TRUST_VARIABLE}=PACKAGE, never by a config"
    )

"""Builds the objects that a config describes; no other module follows a `_target_`.

`lesion_exp/config/registered.py` decides which targets are allowed. Hydra's `instantiate` is not used: it looks the
name up a second time, copies its arguments into config containers (tensors too), and every process that trains would
have to import Hydra.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from lesion_exp.config.registered import (
    TARGET,
    check_registered,
    check_target,
    group_at,
    is_registered,
    is_trusted,
    is_within,
    nodes_with_targets,
    trusted_packages,
)
from lesion_exp.errors import ConfigError, UserError, install_command, nearest, not_installed

_OWN: Final = "lesion_exp"
_PACKAGE: Final = "PACKAGE"
"""The constant of a module with the name of the optional package that it needs."""
_OPTIONAL_LIBRARIES: Final = ("pytorch_optimizer",)
"""Libraries with registered classes (see `registered.LIBRARY_OPTIONS`) that are installed only with an extra."""
_HYDRA_KEYS: Final = ("_args_", "_partial_", "_recursive_", "_convert_")


def instantiate(node: Mapping[str, Any], place: str, /, **passed: Any) -> Any:
    """Builds the object that `node` describes: calls its `_target_` with its other keys and `passed`.

    `place` is the key of the node in a config (`loss`, `augmentation`), which decides which options are allowed there.
    Nodes inside it that have a `_target_` are built first; other containers are passed as plain copies. No target is
    imported before all of them have been checked.

    Raises:
        ConfigError: a target is not registered for its place, a key is not a parameter of its target, a parameter is
            missing, or a library's class refuses a value.
    """
    if not isinstance(node, Mapping) or TARGET not in node:
        raise ConfigError(f"expected a config node with a _target_, got {node!r}; choose an option of its group")
    groups = {}
    for where, found, group in nodes_with_targets(node, place):
        check_target(found[TARGET], where, group)
        groups[where] = group
    return _call(node, place, groups, passed)


def asked_for(node: Mapping[str, Any], place: str, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments among `offered` for which the target of `node` has a parameter of the same name.

    Raises:
        ConfigError: the target is not registered for its place, or does not exist.
    """
    parameters = inspect.signature(resolve_target(node[TARGET], place)).parameters
    return {name: value for name, value in offered.items() if name in parameters}


def resolve_target(path: str, place: str, group: str | None = None) -> Callable[..., Any]:
    """Returns the class or function with the dotted name `path`, an option of the group at the key `place` of a config.

    Raises:
        ConfigError: the target is not registered there, or does not exist.
    """
    group = group or group_at(place)
    check_target(path, place, group)
    where = f"{place}.{TARGET}"
    module_name, _, name = path.rpartition(".")
    module = _import(module_name, where)
    found = getattr(module, name, None)
    if found is None:
        raise ConfigError(
            f"expected a class or function of {module_name}, got {path} in {where}; "
            f"{nearest(name, _targets_in(module))}"
        )
    if not is_registered(path, group) and not _is_target(found):
        raise ConfigError(
            f"expected a class or function that is defined in a package that you trust, got {path} in {where}, which "
            f"is {found!r}; name what the package defines itself"
        )
    target: Callable[..., Any] = found
    return target


def import_own_targets(config: Mapping[str, Any]) -> None:
    """Imports the targets in `config` that are options of this package, for processes that are forked from this one.

    Raises:
        ConfigError: a target is not registered, or does not exist.
    """
    for where, node, group in nodes_with_targets(config):
        if str(node[TARGET]).startswith(f"{_OWN}."):
            resolve_target(node[TARGET], where, group)


def check_targets(config: Mapping[str, Any], extra: Mapping[str, Collection[str]] | None = None) -> None:
    """Checks that every `_target_` in `config` is registered and every key beside it is one of its parameters.

    No target is called, and none is imported before all are known to be registered, so that a job can be checked before
    any data are read. `extra` names keys of a node that are not passed to its target (`{"dataset": {"filter"}}`).

    Raises:
        ConfigError: see `instantiate`.
    """
    check_registered(config)
    for where, node, group in nodes_with_targets(config):
        target = resolve_target(node[TARGET], where, group)
        own_keys = set(node) - {TARGET} - set((extra or {}).get(where, ()))
        _check_keywords(target, own_keys, set(), where)
        _check_nulls(target, {key: node[key] for key in own_keys}, where)


def check_installed(config: Mapping[str, Any]) -> None:
    """Checks for every target that the optional package which its module names as `PACKAGE` is installed.

    Raises:
        ConfigError: a package is missing; the message says how to install it.
    """
    for where, node, group in nodes_with_targets(config):
        check_target(node[TARGET], where, group)
        module, _, name = str(node[TARGET]).rpartition(".")
        known = getattr(sys.modules.get(module), name, None)  # it may be defined in another module
        package = needed_package(getattr(known, "__module__", module))
        if package is not None and importlib.util.find_spec(package) is None:
            raise not_installed(package, f"the {where} {name}")


def needed_package(module: str) -> str | None:
    """Returns the optional package that `module` names as `PACKAGE`, or that it is a part of; None if there is none.

    A module of this package is read, not imported, since most options import torch.
    """
    if module in sys.modules:
        found = getattr(sys.modules[module], _PACKAGE, None)
        return found if isinstance(found, str) else None
    top, *inside = module.split(".")
    if top != _OWN:
        return top if top in _OPTIONAL_LIBRARIES else None
    file = Path(__file__).parents[1].joinpath(*inside).with_suffix(".py")
    return _constant(file, _PACKAGE) if file.is_file() else None


def _constant(file: Path, name: str) -> str | None:
    """Returns the text that the Python module in `file` gives to the constant `name`; None if there is none."""
    for statement in ast.parse(file.read_text("utf-8")).body:
        if isinstance(statement, ast.AnnAssign) and getattr(statement.target, "id", "") == name:
            value = statement.value
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def _call(node: Mapping[str, Any], where: str, groups: Mapping[str, str | None], passed: Mapping[str, Any]) -> Any:
    for key in _HYDRA_KEYS:
        if key in node:
            raise ConfigError(f"expected only _target_ and its parameters in {where}, got {key}; remove it")
    target = resolve_target(node[TARGET], where, groups[where])
    if inspect.isabstract(target):
        left = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        raise ConfigError(
            f"expected {node[TARGET]} in {where} to define the abstract methods of its base class, but {left} is not "
            f"defined; define it in the class"
        )
    arguments = {key: _build(value, f"{where}.{key}", groups) for key, value in node.items() if key != TARGET}
    _check_keywords(target, set(arguments), set(passed), where)
    arguments.update(passed)
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"expected every parameter of {node[TARGET]} in {where}, but the call fails: {error}; add it to {where}"
        ) from error
    try:
        return target(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError, Warning) as error:
        if _is_own_code(target) or is_trusted(node[TARGET]):
            raise  # the traceback says more than a message could
        raise ConfigError(
            f"expected values that {node[TARGET]} accepts in {where}, but it raises: {error}; correct the value"
        ) from error


def _build(value: Any, where: str, groups: Mapping[str, str | None]) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return _call(value, where, groups, {})
        return {key: _build(inner, f"{where}.{key}", groups) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_build(inner, f"{where}.{position}", groups) for position, inner in enumerate(value)]
    return value


def _check_keywords(target: Callable[..., Any], own: set[str], passed: set[str], where: str) -> None:
    parameters = inspect.signature(target).parameters.values()
    if own & passed:
        raise ConfigError(
            f"expected {where} without {', '.join(sorted(own & passed))}, which the job computes from the data; "
            f"remove it"
        )
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY}
    name = f"{target.__module__}.{target.__qualname__}"
    for key in sorted(own - named):
        if key in _HYDRA_KEYS:
            raise ConfigError(f"expected only _target_ and its parameters in {where}, got {key}; remove it")
        raise ConfigError(f"expected a parameter of {name}, got {where}.{key}; {nearest(key, named - passed)}")
    if passed - named:
        raise ConfigError(
            f"expected {name} to take {', '.join(sorted(passed - named))}, which a job passes to {where}; add it to "
            f"its signature"
        )


def _check_nulls(target: Callable[..., Any], own: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError if a parameter of this package is null and its annotation excludes None."""
    if not _is_own_code(target):
        return
    for name, parameter in inspect.signature(target).parameters.items():
        kind = str(parameter.annotation)
        if name in own and own[name] is None and not any(word in kind for word in ("None", "Any", "object")):
            raise ConfigError(f"expected a value for {where}.{name}, got null; leave it out for the default")


def _is_own_code(target: Callable[..., Any]) -> bool:
    return is_within(target.__module__, ["lesion_exp"])


def _import(module_name: str, where: str) -> ModuleType:
    if is_within(module_name, ["albumentations"]):
        importlib.import_module("lesion_exp.augmentation.library")  # sets first what the library reads at its import
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise ConfigError(
                f"expected a module, got {module_name} in {where}, which does not exist; correct its spelling, install "
                f"{missing.partition('.')[0]}, or set PYTHONPATH to the folder that contains it"
            ) from error
        raise ConfigError(
            f"expected the packages that {where} imports, but {missing} is not installed; install it with: "
            f"{install_command(missing.partition('.')[0])}"
        ) from error


def _is_target(found: object) -> bool:
    """Returns whether `found` may be called, which depends on the module that defines it, not on the one that imports
    it.
    """
    return isinstance(found, (type, FunctionType)) and is_within(found.__module__, trusted_packages())


def _targets_in(module: ModuleType) -> list[str]:
    return [name for name, found in vars(module).items() if not name.startswith("_") and _is_target(found)]

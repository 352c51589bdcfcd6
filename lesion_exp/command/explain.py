"""The verb `explain`: where in its images a run finds the evidence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, cast

from lesion_exp.command.arguments import Arguments, open_store_of
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.errors import ConfigError
from lesion_exp.terminal import say

LIST: Final = "list"
_TRUTH: Final = {"true": True, "false": False}


def explain(arguments: Arguments) -> int:
    """Shows on standard output how much of the evidence lies inside the lesions: a report, or one JSON object."""
    from lesion_exp.config.compose import config_folders

    folders = config_folders(arguments.config_dirs)
    wanted = arguments.take("method")
    if wanted == LIST:
        return _list(arguments, folders)
    spec = arguments.need("run", "latest")
    options: dict[str, Any] = {
        "part": arguments.choose("part", ("val", "test")),
        "checkpoint": arguments.choose("checkpoint", ("best", "last")) or "best",
        "count": _number(arguments, "count", 6),
        "images": _number(arguments, "images", None),
        "log_images": _TRUTH[arguments.choose("tracking.log_images", tuple(_TRUTH)) or "true"],
    }
    root = arguments.take("dataset.root")
    settings = _settings(arguments, folders)
    store, paths = open_store_of(arguments)
    from lesion_exp.verbs.explain.explain import explain as explain_run
    from lesion_exp.verbs.explain.methods import DEFAULT_METHODS, make_explainer
    from lesion_exp.verbs.explain.report import as_json, as_text
    from lesion_exp.verbs.explain.request import ExplanationRequest

    names = DEFAULT_METHODS if wanted is None else _names(wanted)
    idle = sorted(set(settings) - set(names))
    if idle:
        raise ConfigError(f"expected keys of the methods asked for, got {idle[0]}.{next(iter(settings[idle[0]]))}=; "
                          f"add {idle[0]} to method= or leave it out")  # fmt: skip
    methods = {name: make_explainer(name, folders, settings.get(name)) for name in names}
    request = ExplanationRequest(methods, data_root=Path(root) if root else None, **options)
    run = chosen_run(store, spec)
    found = explain_run(run, request, paths)
    if arguments.json:
        print(json.dumps({"run_id": run.run_id, "methods": {one.method: as_json(one) for one in found}}))
    else:
        say(as_text(found), end="")
    say(f"explanations: run {run.run_id}, {', '.join(one.folder for one in found)}", sys.stderr)
    return 0


def _list(arguments: Arguments, folders: list[Path]) -> int:
    """Shows the methods with what they do, and which lack a package."""
    from lesion_exp.verbs.explain.methods import about, is_installed, method_names

    if arguments.overrides:
        raise ConfigError(f"expected method=list alone, got {arguments.overrides[0]}; name the methods to use them")
    found = {name: (about(name, folders), is_installed(name, folders)) for name in method_names(folders)}
    if arguments.json:
        print(json.dumps({name: {"about": text, "installed": there} for name, (text, there) in found.items()}))
        return 0
    for name, (text, there) in found.items():
        say(f"{name:<22}{text}" if there else f"{name:<22}{text} [not installed]")
    return 0


def _names(text: str) -> list[str]:
    """The methods of `a,b` or `[a,b]`, each once."""
    names = [name.strip() for name in text.removeprefix("[").removesuffix("]").split(",")]
    twice = [name for position, name in enumerate(names) if name in names[:position]]
    if twice:
        raise ConfigError(f"expected different methods, got {twice[0]} twice; name each once")
    return names


def _settings(arguments: Arguments, folders: list[Path]) -> dict[str, dict[str, Any]]:
    """The values of `METHOD.KEY=VALUE`, which then no longer stand among the overrides."""
    import yaml

    from lesion_exp.verbs.explain.methods import method_names

    known = method_names(folders)
    found: dict[str, dict[str, Any]] = {}
    for text in list(arguments.overrides):
        key = text.partition("=")[0]
        method, _, name = key.partition(".")
        if method in known and name:
            try:
                found.setdefault(method, {})[name] = yaml.safe_load(cast(str, arguments.take(key)))
            except yaml.YAMLError as error:
                raise ConfigError(f"expected a value after {key}=, got {text}; for example {key}=0.2") from error
    return found


def _number(arguments: Arguments, key: str, default: int | None) -> int | None:
    text = arguments.take(key)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"expected {key} to be a whole number of at least 1, got {text!r}; for example {key}=20")
    return int(text)

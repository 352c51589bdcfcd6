"""The verb `explain`: draws saliency maps of a run's network."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lesion_exp.command.arguments import Arguments, open_project, value_of
from lesion_exp.command.chosen_run import ChosenRun, chosen_run, chosen_weights, read_moved
from lesion_exp.errors import ConfigError
from lesion_exp.option import Names, option
from lesion_exp.terminal import say
from lesion_exp.trained_runs.moved_data import MovedData
from lesion_exp.verbs.explain.request import DEFAULT_METHODS, ExplanationRequest

LIST: Final = "list"


@dataclass(frozen=True)
class ExplainOptions:
    """The options of `explain` beside its run and its `ExplanationRequest`."""

    method: tuple[str, ...] = option(
        DEFAULT_METHODS,
        Names("A,B", "grad_cam,occlusion"),
        f"methods; method={LIST} shows all of them with a description",
    )


def explain(arguments: Arguments) -> int:
    """Shows on standard output how much of the saliency lies inside the lesions: a report, or one JSON object."""
    wanted = arguments.read(ExplainOptions).method
    if wanted == (LIST,):
        return _list(arguments)
    spec = arguments.read(ChosenRun).run
    places = read_moved(arguments, MovedData).places
    weights = chosen_weights(arguments, ExplanationRequest, spec)
    request = arguments.read(ExplanationRequest, methods={}, places=places, **weights)
    from lesion_exp.config.compose import config_folders

    folders = config_folders(arguments.config_dirs)
    settings = _settings(arguments, folders)
    from lesion_exp.verbs.explain.request import make_explainer, method_node

    names = _each_once(wanted)
    idle = sorted(set(settings) - set(names))
    if idle:
        raise ConfigError(
            f"expected settings of the methods in method=, got {idle[0]}.{next(iter(settings[idle[0]]))}=; "
            f"add {idle[0]} to method=, or leave the setting out"
        )
    for name in names:
        method_node(name, folders, settings.get(name))
    project = open_project(arguments)
    run = chosen_run(project.store, spec)
    from lesion_exp.trained_runs.trained_run import check_network, reading_ahead, trained_run

    trained = trained_run(run, project, places)
    check_network(trained, "an explanation")
    with reading_ahead(trained):
        from lesion_exp.verbs.explain.explain import explain as explain_run
        from lesion_exp.verbs.explain.explanation_report import as_json, as_text

        methods = {name: make_explainer(name, folders, settings.get(name)) for name in names}
        found = explain_run(run, replace(request, methods=methods), project)
    if arguments.json:
        print(json.dumps({"run_id": run.run_id, "methods": {one.method: as_json(one) for one in found}}))
    else:
        say(as_text(found), end="")
    say(f"explanations: run {run.run_id}, {', '.join(one.folder for one in found)}", sys.stderr)
    return 0


def _list(arguments: Arguments) -> int:
    """Shows the methods with their descriptions, and which of them lack a package."""
    from lesion_exp.config.compose import config_folders
    from lesion_exp.verbs.explain.request import about, is_installed, method_names

    if arguments.overrides:
        raise ConfigError(f"expected method=list alone, got {arguments.overrides[0]}; name methods to use them")
    folders = config_folders(arguments.config_dirs)
    found = {name: (about(name, folders), is_installed(name, folders)) for name in method_names(folders)}
    if arguments.json:
        print(json.dumps({name: {"about": text, "installed": there} for name, (text, there) in found.items()}))
        return 0
    for name, (text, there) in found.items():
        say(f"{name:<22}{text}" if there else f"{name:<22}{text} [not installed]")
    return 0


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns `names`.

    Raises:
        ConfigError: a method is named twice.
    """
    twice = [name for position, name in enumerate(names) if name in names[:position]]
    if twice:
        raise ConfigError(f"expected different methods, got {twice[0]} twice; name each once")
    return names


def _settings(arguments: Arguments, folders: list[Path]) -> dict[str, dict[str, Any]]:
    """The settings `METHOD.KEY=VALUE` by their methods; they are removed from the overrides."""
    import yaml

    from lesion_exp.verbs.explain.request import method_names

    found: dict[str, dict[str, Any]] = {}
    for method in method_names(folders):
        for key, text in arguments.take_below(method).items():
            try:
                found.setdefault(method, {})[key.removeprefix(f"{method}.")] = value_of(text)
            except yaml.YAMLError as error:
                raise ConfigError(f"expected a value after {key}=, got {text}; for example {key}=0.2") from error
    return found

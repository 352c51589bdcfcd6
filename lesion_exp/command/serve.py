"""The verb `serve`: serves a run's network as a web application."""

from __future__ import annotations

import os
from pathlib import Path

from lesion_exp.command.arguments import Arguments, check_store_keys, open_project
from lesion_exp.command.chosen_run import ChosenRun, chosen_run, chosen_weights
from lesion_exp.errors import ConfigError, not_installed
from lesion_exp.verbs.serve.listener import listening
from lesion_exp.verbs.serve.settings import KEY_VARIABLE, ModelOptions, Settings


def serve(arguments: Arguments) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    spec = arguments.read(ChosenRun).run
    gives_conformal = arguments.gives(ModelOptions, "conformal")
    options = arguments.read(ModelOptions, **chosen_weights(arguments, ModelOptions, spec))
    settings = arguments.read(Settings, **_hidden_key(arguments))
    check_store_keys(arguments)
    _check_installed()
    project = open_project(arguments)
    run = chosen_run(project.store, spec)
    from lesion_exp.trained_runs.trained_run import check_kept, check_weights, trained_run

    trained = trained_run(run, project)
    check_weights(trained, options.checkpoint)
    check_kept(run, options.calibration)
    if gives_conformal and not trained.has_best_weights(options.checkpoint):
        raise _no_sets(options)
    with listening(settings) as listener:
        from lesion_exp.verbs.serve.server import serve as serve_run

        serve_run(run, options, settings, project, listener)
    return 0


def _no_sets(options: ModelOptions) -> ConfigError:
    """The refusal of conformal sets beside weights for which none were fitted."""
    given = "other weights" if isinstance(options.checkpoint, Path) else f"checkpoint={options.checkpoint}"
    return ConfigError(
        f"expected conformal= only with the best weights of a run, on whose predictions the sets were fitted, got "
        f"conformal={options.conformal} with {given}; leave conformal= out, or serve the best weights"
    )


def _check_installed() -> None:
    from importlib.util import find_spec

    for module, package in (
        ("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("python_multipart", "python-multipart"),
        ("prometheus_client", "prometheus-client"),
    ):  # fmt: skip
        if find_spec(module) is None:
            raise not_installed(package, "serve (the extra serve has all it needs)")


def _hidden_key(arguments: Arguments) -> dict[str, str]:
    """The key from the environment, which other users of the machine cannot see, unless the command gives one."""
    key = os.environ.get(KEY_VARIABLE)
    return {"api_key": key} if key and not arguments.gives(Settings, "api_key") else {}

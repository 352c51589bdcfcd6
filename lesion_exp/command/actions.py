"""What each verb does, from its arguments to its exit code; heavy rooms are imported inside."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from lesion_exp.errors import ConfigError
from lesion_exp.job.shipped_conf import find_root


@dataclass
class Arguments:
    """The command line, taken apart."""

    overrides: list[str] = field(default_factory=list)
    config_dirs: list[Path] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)
    json: bool = False
    show_tree: bool = True
    print_config: bool = False


def train(arguments: Arguments) -> int:
    """Runs one job; the last line of standard output is the run's id."""
    job = _job(arguments)
    if job is None:
        return 0
    from lesion_exp.job.run import train as run_train

    result = run_train(job)
    root = Path(job.config["paths"]["root"])
    print(
        f"\nlook at it:  {_command(root)} ui     (then open the address it prints)\n"
        f"artifacts:   predictions, confusion matrices, curves and checkpoints lie with the run",
        file=sys.stderr,
    )
    print(result.run_id)
    return 0


def prepare(arguments: Arguments) -> int:
    """Checks a data set and builds its store."""
    job = _job(arguments)
    if job is None:
        return 0
    from lesion_exp.prepare import prepare as run_prepare

    summary = run_prepare(job)
    if arguments.json:
        print(json.dumps(summary))
    return 0


def preview(arguments: Arguments) -> int:
    """Draws augmented images; the last line of standard output is the picture's path."""
    job = _job(arguments)
    if job is None:
        return 0
    from lesion_exp.preview import preview as run_preview

    print(run_preview(job).path)
    return 0


def ui(arguments: Arguments) -> int:
    """Serves MLflow's page until Ctrl-C."""
    own = {"host": "127.0.0.1", "port": "5000"}
    rest = []
    for override in arguments.overrides:
        key, _, value = override.partition("=")
        if key in own:
            own[key] = value
        else:
            rest.append(override)
    if not own["port"].isdigit():
        raise ConfigError(f"expected port to be a number, got {own['port']!r}; for example port=5001")
    arguments.overrides, arguments.show_tree = rest, False
    job = _job(arguments)
    if job is None:
        return 0
    from lesion_exp.job.tracked import open_job_store
    from lesion_exp.tracking.ui import run_ui

    run_ui(open_job_store(job.config), job.config["tracking"]["experiment"], own["host"], int(own["port"]))
    return 0


def _job(arguments: Arguments):  # type: ignore[no-untyped-def]  # its type would import yaml and Hydra for --help
    """The job that the arguments name, shown to the user; None after `--cfg job`."""
    from lesion_exp.job.compose import compose
    from lesion_exp.job.freeze import freeze, read_job
    from lesion_exp.job.instantiate import TRUST_VARIABLE
    from lesion_exp.job.messages import end_on_sigterm, show_messages

    show_messages()
    end_on_sigterm()
    if arguments.trusted:
        os.environ[TRUST_VARIABLE] = ",".join([*filter(None, [os.environ.get(TRUST_VARIABLE)]), *arguments.trusted])
    files = [text.partition("=")[2] for text in arguments.overrides if text.startswith("job=")]
    if files:
        if len(arguments.overrides) > 1:
            raise ConfigError(
                "expected job=FILE alone: a frozen job takes no further overrides; compose a new one instead"
            )
        job = read_job(Path(files[0]))
    else:
        composed = compose(arguments.overrides, config_dirs=arguments.config_dirs, root=find_root(Path.cwd()))
        job = freeze(composed)
    if arguments.print_config:
        import yaml

        print(yaml.safe_dump(job.config, sort_keys=False), end="")
        return None
    if arguments.show_tree and job.config["print_config"] and not arguments.json:
        from lesion_exp.command.config_tree import show_config

        show_config(job.config, job.overrides)
    return job


def _command(root: Path) -> str:
    """How this user starts the program: by its name where that is on the path."""
    from shutil import which

    inside = root / ".venv" / "bin" / "lesion-exp"
    return "lesion-exp" if which("lesion-exp") or not inside.is_file() else str(inside.relative_to(root))

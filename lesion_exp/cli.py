"""The command `lesion-exp`: parses its arguments, calls a verb and turns the outcome into an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lesion_exp.command.arguments import Arguments, is_word
from lesion_exp.command.completion import LINE, candidates
from lesion_exp.command.help import general_help, verb_help
from lesion_exp.command.verbs import FLAGS, VERB_FLAGS, VERBS
from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.errors import ConfigError, UntrustedError, UserError, is_full, is_no_path, nearest
from lesion_exp.next_command import own_repeated_words
from lesion_exp.privacy import without_secrets
from lesion_exp.progress import Stage
from lesion_exp.terminal import say, shell_words
from lesion_exp.version import __version__

DONE, FAILED, MISTAKE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
TRAINING: Final = ("train", "resume", "reproduce")
"""Verbs that train: a message about their failure speaks of the run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lesion-exp ARGV` and returns its exit code.

    0: done, 1: a run failed, 2: a mistake of the user, 130: Ctrl-C, 143: SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None and LINE in os.environ:
        print("\n".join(candidates(os.environ[LINE], Path.cwd())))
        return DONE
    with own_repeated_words():
        return _outcome(arguments)


def _outcome(arguments: list[str]) -> int:
    """Calls the verb, shows what stopped it, and returns the exit code."""
    try:
        return _call(arguments)
    except UserError as error:
        say(f"lesion-exp: {without_secrets(str(error))}", sys.stderr)
        if isinstance(error, UntrustedError):
            trust = [word for package in error.packages for word in ("--trust", package)]
            say(f"type: {without_secrets(shell_words(['lesion-exp', *arguments, *trust]))}", sys.stderr)
        return MISTAKE
    except KeyboardInterrupt as error:
        say(f"\nlesion-exp: stopped by Ctrl-C; {_state_left(error, arguments)}", sys.stderr)
        return INTERRUPTED
    except SystemExit as error:  # Lightning turns Ctrl-C into SystemExit(1)
        if isinstance(error.__context__, KeyboardInterrupt):
            say(f"\nlesion-exp: stopped by Ctrl-C; {_state_left(error, arguments)}", sys.stderr)
            return INTERRUPTED
        if error.code == TERMINATED or getattr(error, "__notes__", []):
            say(f"lesion-exp: stopped; {_state_left(error, arguments)}", sys.stderr)
        return error.code if isinstance(error.code, int) else FAILED
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        if is_no_path(error):
            say(
                f"lesion-exp: expected paths that this machine accepts, got a path that it refuses: {error}; shorten "
                f"it, or write the folder of the user in place of ~NAME",
                sys.stderr,
            )
            return MISTAKE
        notes = "; ".join(getattr(error, "__notes__", []))
        what = "the run" if arguments[0] in TRAINING else f"the verb {arguments[0]}"
        say(f"lesion-exp: {what} failed: {type(error).__name__}: {without_secrets(str(error))}", sys.stderr)
        say(f"  {notes}" if notes else _where(error), sys.stderr)
        if is_full(error):
            say("  free some room; lesion-exp doctor shows how much each folder has left", sys.stderr)
        return FAILED


def _state_left(error: BaseException, arguments: Sequence[str]) -> str:
    """What a stopped command leaves behind: the last note of the exception, else what is true for its verb."""
    notes = getattr(error, "__notes__", [])
    if notes:
        return str(notes[-1])
    verb = VERBS.get(arguments[0]) if arguments else None
    return "nothing was started" if verb is None else verb.stopped


def _call(arguments: Sequence[str]) -> int:
    arguments = list(arguments)
    if "--version" in arguments:
        print(f"lesion-exp {__version__}")
        return DONE
    if not arguments or arguments[0] in {"--help", "-h", "help"}:
        print(general_help(), end="")
        return DONE
    name = arguments.pop(0)
    if name not in VERBS:
        raise ConfigError(f"expected a verb, got {name!r}; {nearest(name, VERBS)}\nlesion-exp --help lists the verbs")
    verb = VERBS[name]
    if "--help" in arguments or "-h" in arguments:
        print(verb_help(verb), end="")
        return DONE
    parsed = _parse(arguments, own_flags=verb.flags, takes_names=verb.takes_names)
    parsed.own_keys = verb.own_keys
    module, _, function = verb.target.partition(":")
    work = VERBS["sweep"].work if parsed.multirun else verb.work
    with Stage(work, background=True, shown=bool(work)):
        code: int = getattr(importlib.import_module(module), function)(parsed)
    return code


def _parse(arguments: list[str], *, own_flags: Sequence[str], takes_names: bool = False) -> Arguments:
    parsed = Arguments()
    rest = iter(arguments)
    for argument in rest:
        flag, _, value = argument.partition("=") if argument.startswith("--") else (argument, "", "")
        if flag == "--config-dir":
            parsed.config_dirs.append(Path(value or _next(rest, flag)))
        elif flag == "--trust":
            parsed.trusted.append(value or _next(rest, flag))
        elif flag == "--cfg":
            kind = value or _next(rest, flag)
            if kind != "job":
                raise ConfigError(f"expected --cfg job, got --cfg {kind}; write --cfg job")
            parsed.print_config = True
        elif flag == "--no-tree":
            parsed.show_tree = False
        elif flag == "--full-tree":
            parsed.full_tree = True
        elif argument in {"-m", "--multirun"}:
            if "-m" not in own_flags:
                raise ConfigError("expected -m with train only, where it runs a sweep; leave it out")
            parsed.multirun = True
        elif flag in own_flags:
            parsed.flags.add(flag)
        elif argument.startswith("-"):
            known = [name.split(" ", maxsplit=1)[0] for name in FLAGS if name not in VERB_FLAGS or name in own_flags]
            raise ConfigError(
                f"expected a flag of this verb, got {argument}; {_as_key(argument, rest) or nearest(argument, known)}"
            )
        elif takes_names and is_word(argument):
            parsed.names.append(argument)
        else:
            parsed.overrides.append(argument)
    return parsed


def _as_key(argument: str, rest: Iterator[str]) -> str:
    """What is meant by a flag that is a key: keys have no dashes. Empty if it names none."""
    from lesion_exp.config.habits import usual_name

    name, _, value = argument.lstrip("-").partition("=")
    following = value or next(rest, "")
    meant = usual_name(name, "" if following.startswith("-") else following, conf_dir())
    return f"keys have no dashes: {meant}" if meant else ""


def _next(rest: object, flag: str) -> str:
    value = next(rest, None)  # type: ignore[call-overload]
    if value is None:
        raise ConfigError(f"expected a value after {flag}, got none; lesion-exp VERB --help shows the flags")
    return str(value)


def _where(error: BaseException) -> str:
    """The file and line of this package where the error was raised, for an error before a run has a log file."""
    import traceback

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "lesion_exp" in frame.filename]
    return f"  in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "  outside of lesion_exp"


if __name__ == "__main__":
    sys.exit(main())

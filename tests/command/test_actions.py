"""What the commands say at their end."""

import shlex

import pytest

from lesion_exp.command.actions import _show_end
from lesion_exp.command.arguments import Arguments


@pytest.mark.parametrize("key", ["paths.root", "tracking.uri"])
def test_the_commands_at_the_end_of_a_training_find_its_store(capsys, key):
    given = f"{key}=/data/my study"
    _show_end("0123456789", Arguments(overrides=["seed=3", given]))
    shown = capsys.readouterr()
    assert shown.out == "0123456789\n"
    commands = [line.partition(": ")[2].partition("     (")[0] for line in shown.err.splitlines() if "(" in line]
    assert [shlex.split(command)[-1] for command in commands] == [given, given]
    assert "seed=3" not in shown.err

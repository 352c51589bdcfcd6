import shlex
from pathlib import Path

import pytest

from lesion_exp.command.arguments import Arguments, prepare_process
from lesion_exp.next_command import next_command, own_repeated_words, repeat_in_commands

pytestmark = pytest.mark.usefixtures("own_process")


def test_a_command_that_a_message_suggests_repeats_where_runs_and_configs_are():
    given = ["seed=1,2", "paths.root=/data/my study", "loss=focal", "+paths.sweeps=/s", "tracking.uri=sqlite:///a.db"]
    prepare_process(Arguments(given, config_dirs=[Path("my conf")], trusted=["mine"], from_python=True))
    assert shlex.split(next_command("sweep", "resume", "latest")) == [
        "lesion-exp", "sweep", "resume", "latest", "paths.root=/data/my study", "+paths.sweeps=/s",
        "tracking.uri=sqlite:///a.db", "--config-dir=my conf", "--trust=mine",
    ]  # fmt: skip


def test_a_command_that_a_message_suggests_has_no_password():
    repeat_in_commands(["tracking.uri=https://anna:secret-word@server:5000"])
    assert next_command("sync") == "lesion-exp sync tracking.uri=https://server:5000"


def test_the_words_of_one_command_are_not_repeated_for_the_next():
    repeat_in_commands(["paths.root=here"])
    with own_repeated_words():
        assert next_command("sync") == "lesion-exp sync"
        repeat_in_commands(["paths.root=there"])
        assert next_command("sync") == "lesion-exp sync paths.root=there"
    assert next_command("sync") == "lesion-exp sync paths.root=here"

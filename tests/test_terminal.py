import io

import pytest

from lesion_exp.terminal import FILE_WIDTH, console, is_terminal, say, width_of, wrapped
from tests.screen import Screen, plain

EPOCH = (
    "epoch 3/30  train/loss 0.812  val/loss 0.901  val/balanced_accuracy 0.512 (best 0.530, epoch 2)  "
    "143 images/s  12 min left"
)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_long_line_is_broken_between_words(width):
    lines = wrapped(EPOCH, width).split("\n")
    assert all(len(line) <= width for line in lines)
    assert " ".join(lines).split() == EPOCH.split()
    assert all(line.startswith("  ") for line in lines[1:])


def test_what_fits_and_what_goes_to_a_file_stays_as_it_is():
    assert wrapped(EPOCH, None) == EPOCH
    assert wrapped("a\n\n  b  c", 40) == "a\n\n  b  c"
    path = "/a/very/long/path" * 8
    assert path in wrapped(f"figure: {path}", 40).split("\n")[1]


def test_a_line_of_a_list_hangs_below_its_words():
    assert wrapped("  - one two three four five", 20) == "  - one two three\n    four five"


def test_a_file_is_no_terminal_whatever_variables_say(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.delenv("COLUMNS", raising=False)
    file = io.StringIO()
    assert not is_terminal(file)
    assert width_of(file) is None
    console(file).print("[bold red]words[/] " * 40)
    assert "\x1b" not in file.getvalue()
    assert max(map(len, file.getvalue().split("\n"))) <= FILE_WIDTH


def test_tables_in_a_file_have_the_width_that_is_asked_for_and_messages_stay_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    file, messages = io.StringIO(), io.StringIO()
    console(file).print("words " * 40)
    assert max(map(len, file.getvalue().split("\n"))) <= 60
    say(EPOCH, messages)
    assert messages.getvalue() == f"{EPOCH}\n"


def test_a_dumb_terminal_has_a_width_but_draws_nothing(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "50")
    screen = Screen()
    assert not is_terminal(screen)
    say(EPOCH, screen)
    assert max(map(len, screen.getvalue().split("\n"))) <= 50


def test_a_terminal_shows_colours(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    screen = Screen()
    console(screen).print("[red]words[/]")
    assert "\x1b[31m" in screen.getvalue()
    assert plain(screen.getvalue())[0] == "words"


@pytest.mark.parametrize(
    "command",
    [
        "lesion-exp resume run=3f2a91c07d1e4b5f8a6c paths.root=/data/studies/first --trust clinic",
        "lesion-exp sweep resume 20260101-120000-abcd paths.root=/data/studies/first --config-dir /data/conf",
        "lesion-exp evaluate 'run=[3f2a91c0,77de02b4]' 'paths.root=/data/my studies' tracking.uri=URI --check-only",
        "lesion-exp train -m experiment=mine optimizer.lr=0.1,0.2 '+tags.why=a b' --trust=clinic",
    ],
)
def test_a_command_in_a_text_is_not_broken(command):
    text = f"the sweep was stopped after a while of waiting; {command} continues it from there, and nothing is lost"
    lines = wrapped(text, 60).split("\n")
    assert command in [line.strip() for line in lines], "a line of its own, which a shell takes"
    assert " ".join(line.strip() for line in lines) == text
    assert all(len(line) <= 60 for line in lines if command not in line)

import builtins
import logging
import re
import sys
import time
import types

import pytest

from lesion_exp import progress
from lesion_exp.process.messages import show_messages
from lesion_exp.progress import Stage, duration, elapsed
from lesion_exp.terminal import in_notebook
from tests.own_process import restored
from tests.screen import Screen, plain


@pytest.fixture(autouse=True)
def with_messages(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with restored():
        show_messages()
        yield


def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_gets_a_line_a_stage_and_no_control_character(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Stage("reading", 10015, "images") as stage:
        stage.advance(10015)
        with Stage("hashing"), Stage("a detail", announced=False):
            pass
    shown = capsys.readouterr()
    assert shown.err == "reading 10,015 images\nhashing\n"
    assert shown.out == ""


def test_long_work_says_now_and_then_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.1)
    said = []
    with Stage("reading", 400, "images") as stage:
        stage.advance(100)
        until(lambda: said.append(capsys.readouterr().err) or "reading 100 of 400 images" in "".join(said))
        stage.advance(200)
        until(lambda: said.append(capsys.readouterr().err) or "reading 300 of 400 images" in "".join(said))
    text = "".join(said)
    assert re.search(r"reading 300 of 400 images, [\d,]+ a second, \d+ s left", text)
    assert "\r" not in text
    with Stage("looking for twins"):
        until(lambda: "looking for twins: 0 s so far" in capsys.readouterr().err)


def test_between_stages_the_work_of_the_command_is_named(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.05)
    with Stage("evaluating", background=True):
        with Stage("reading", 4, "images"):
            pass
        assert capsys.readouterr().err == "reading 4 images\n", "the work itself is no stage that begins"
        until(lambda: "evaluating: 0 s so far" in capsys.readouterr().err)
    time.sleep(0.15)
    capsys.readouterr()
    time.sleep(0.15)
    assert capsys.readouterr().err == "", "nothing is said once the work is done"


def test_a_note_and_what_an_earlier_process_did_are_counted():
    stage = Stage("predicting", 100, "images", shown=False)
    stage.begin(60)
    stage.reach(80, "31 images/s")
    assert stage.progress_line().startswith("predicting 80 of 100 images, 31 images/s, ")
    left = stage.seconds_left()
    assert left is not None
    assert left == pytest.approx(stage.seconds(), rel=0.5), "20 are done in this process, and 20 are left"
    assert Stage("x", 3, "y", shown=False).seconds_left() is None


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (7200, "2.0 h")])
def test_a_duration_in_words(seconds, words):
    assert duration(seconds) == words


def test_other_ranks_and_whoever_shows_no_messages_stay_silent(capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with Stage("reading", 5, "images"):
        pass
    monkeypatch.delenv("LOCAL_RANK")
    logging.getLogger("lesion_exp").setLevel(logging.WARNING)
    with Stage("reading", 5, "images"):
        pass
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_that_messages_do_not_break_and_that_goes_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with Stage("evaluating", background=True):
        with Stage("reading", 50, "images") as stage:
            stage.advance(20)
            logging.getLogger("lesion_exp").info("a message of ninety letters " + "in words " * 8)
        drawn = plain(screen.getvalue())
        assert any("reading" in line and "20/50 images" in line for line in drawn)
        assert any("a message" in line for line in drawn)
        assert all(len(line) <= 80 for line in drawn if "message" in line)
        assert sys.stderr is screen, "it is given back"
    assert screen.getvalue().endswith(("\x1b[2K", "\x1b[?25h")), "the bar is erased, and the cursor is back"


class ZMQInteractiveShell:
    """Has the name of the shell of a notebook."""


@pytest.fixture
def notebook(monkeypatch):
    """What a fake notebook has shown: a list of (display, html), a display a bar."""
    shown = []

    class Html(str):
        pass

    class Handle:
        def __init__(self, place):
            self.place = place

        def update(self, content):
            shown.append((self.place, content))

    def display(content, display_id=False):
        assert display_id
        place = len({place for place, _ in shown})
        shown.append((place, content))
        return Handle(place)

    module = types.ModuleType("IPython.display")
    module.HTML, module.display = Html, display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    return shown


def test_a_notebook_has_one_bar_that_moves_and_nothing_in_red(notebook, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0.0)
    assert in_notebook()
    with Stage("training", background=True):
        with Stage("reading", 50, "images") as stage:
            stage.advance(20)
        logging.getLogger("lesion_exp").warning("a warning <of> ours")
        with Stage("epoch 1/2:", 7, "steps") as stage:
            stage.reach(3, "31 images/s")
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "a warning <of> ours" in shown.out
    assert {place for place, _ in notebook} == {0}, "one bar is changed, none is added"
    pages = [content for _, content in notebook]
    assert any('value="20" max="50"' in page and "reading 20 of 50 images" in page for page in pages)
    assert any('value="3" max="7"' in page and "31 images/s" in page for page in pages)
    assert "done after" in pages[-1]


def test_a_terminal_with_ipython_is_no_notebook(monkeypatch):
    class TerminalInteractiveShell:
        pass

    monkeypatch.setattr(builtins, "get_ipython", TerminalInteractiveShell, raising=False)
    assert not in_notebook()
    monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    assert not in_notebook()


def test_a_count_that_starts_anew_has_no_speed_yet():
    stage = Stage("epoch", 12, "steps", shown=False)
    stage.begin(12)
    stage.reach(1)
    assert stage.rate() == ""
    assert stage.seconds_left() is None


def test_lines_about_a_long_wait_differ():
    assert [elapsed(seconds) for seconds in (25, 89.6, 100, 125, 3599, 7200)] == [
        "25 s", "90 s", "1 min 40 s", "2 min 5 s", "59 min 59 s", "2.0 h"
    ]  # fmt: skip

"""The outputs on the pages are what their commands print, and the script that writes them changes nothing else."""

import re
import shlex
import tempfile
from pathlib import Path

import pytest

from scripts import worked_output
from tests.commands import blocks as fenced_blocks

BLOCKS = [block for document in worked_output.DOCUMENTS for block in worked_output.blocks(document)]
MOST_LINES = 18
PORTABLE = {"images": "lesion-exp prepare", "audit": "lesion-exp audit"}
"""Projects with commands that print the same on every machine, and how these begin: nothing is trained."""

PAGE = """\
# A page

```bash
lesion-exp evaluate run=latest
```

<!-- output of: lesion-exp evaluate run=latest
in: demo
show: ^mel
-->

```text
old
```

Words after it.
"""


def name_of(block):
    return f"{block.document.name}: {block.command}"


def typed(document):
    """The words of every line of the shell blocks of a page, without comments."""
    for body in fenced_blocks(document, "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_the_command_of_an_output_is_on_its_page_and_is_run_by_its_project(block):
    assert shlex.split(block.command) in list(typed(block.document))
    assert block.command in worked_output.PROJECTS[block.project].commands


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_an_output_is_short_and_has_only_the_lines_that_are_asked_for(block):
    lines = block.body.splitlines()
    assert 1 <= len(lines) <= MOST_LINES
    assert worked_output.chosen(block.body, block.shown) == block.body


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_an_output_names_no_place_and_no_run_of_the_machine_that_made_it(block):
    for place in (tempfile.gettempdir(), str(Path.home()), str(worked_output.REPOSITORY), "/tmp", "/home", "/root"):
        assert place not in block.body
    if worked_output.PROJECTS[block.project].is_steady:
        assert worked_output.steady(block.body) == block.body
    ids = re.findall(r"\b[0-9a-f]{32}\b", block.body)
    assert set(ids) <= {worked_output.shown_id(number) for number in range(9)}


def test_most_guides_have_an_output():
    assert len({block.document for block in BLOCKS}) >= 14


def test_every_project_is_shown():
    assert {block.project for block in BLOCKS} == set(worked_output.PROJECTS)


def test_the_readme_says_of_the_reproduction_what_its_page_shows():
    found = [
        re.findall(r"\d+ metrics \(\d+ points\)", (worked_output.REPOSITORY / name).read_text("utf-8"))
        for name in ("README.md", "docs/reproduce.md")
    ]
    assert len(found[0]) == 1
    assert found[0] == found[1]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page of its own, whose command prints what the test says."""
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    monkeypatch.setattr(worked_output, "DOCUMENTS", (path,))
    monkeypatch.setattr(worked_output, "REPOSITORY", tmp_path)
    return path


def prints(monkeypatch, text):
    monkeypatch.setattr(worked_output, "outputs", lambda name, folder: [("lesion-exp evaluate run=latest", text)])


def test_only_the_body_of_a_block_is_written(page, monkeypatch, capsys):
    prints(monkeypatch, "class  recall\nmel    0.1\nnv     0.2\n")
    assert worked_output.main(["--check"]) == 1
    assert page.read_text() == PAGE
    assert "page.md: lesion-exp evaluate run=latest" in capsys.readouterr().out
    assert worked_output.main([]) == 0
    assert page.read_text() == PAGE.replace("old\n", "...\nmel    0.1\n...\n")
    assert worked_output.main(["--check"]) == 0


def test_outputs_of_other_projects_stay(page, monkeypatch):
    prints(monkeypatch, "mel 0.1\n")
    assert worked_output.main(["audit"]) == 0
    assert page.read_text() == PAGE


def test_what_a_machine_measures_is_written_only_if_it_is_named(page, monkeypatch):
    page.write_text(PAGE.replace("in: demo", "in: plan"))
    prints(monkeypatch, "mel 0.1\n")
    assert worked_output.main([]) == 0
    assert "mel 0.1" not in page.read_text()
    assert worked_output.main(["plan"]) == 0
    assert "mel 0.1" in page.read_text()


def test_a_line_that_the_command_no_longer_prints_is_named(page, monkeypatch):
    prints(monkeypatch, "class  recall\nnv     0.2\n")
    with pytest.raises(ValueError, match=r"page\.md, `lesion-exp evaluate run=latest`: expected a line with \^mel"):
        worked_output.main([])
    assert page.read_text() == PAGE


def test_a_path_of_this_machine_is_not_written(page, monkeypatch):
    prints(monkeypatch, f"mel: {Path.home()}/data\n")
    with pytest.raises(ValueError, match="expected no path of this machine"):
        worked_output.main([])
    assert page.read_text() == PAGE


def test_a_mark_without_a_block_is_refused(page):
    page.write_text(PAGE.replace("```text", "```"))
    with pytest.raises(ValueError, match=r"at each of the 1 marks of page\.md .* got 0"):
        worked_output.main(["--check"])


def test_an_unknown_project_is_refused(page, capsys):
    with pytest.raises(SystemExit):
        worked_output.main(["dmeo"])
    assert "got dmeo" in capsys.readouterr().err


def test_lines_between_those_that_are_shown_become_dots_and_empty_lines_stay_one():
    text = "a\nb\n\n\nc\nd\n"
    assert worked_output.chosen(text, ["a", "b", "c"]) == "a\nb\n\nc\n...\n"
    assert worked_output.chosen(text, ["b .. c"]) == "...\nb\n\n\nc\n...\n"
    assert worked_output.chosen(text, ["b"]) == "...\nb\n...\n"
    assert worked_output.chosen(text, []) == "a\nb\n\n\nc\nd\n"


def test_a_table_with_times_is_as_wide_after_seconds_as_after_minutes():
    seconds = f"cell  loss   time  run     \n{27 * '─'}\n   0  focal  31 s  91c07d12\n"
    minutes = f"cell  loss    time  run     \n{28 * '─'}\n   0  focal  2 min  91c07d12\n"
    shown = worked_output.steady(seconds)
    assert shown == worked_output.steady(minutes) == worked_output.steady(shown)
    assert shown == f"cell  loss  time  run\n{75 * '─'}\n   0  focal   N s  91c07d12\n"


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("took 12.3 s, 4 min 5 s, 2 h", "took N s, N s, N s"),
        (
            "epoch 1/2  val/accuracy 0.5 (best 0.5, epoch 1)  9 s left\n",
            "epoch 1/2  val/accuracy 0.5 (best 0.5, epoch 1)\n",
        ),
        ("3 passed in 49.60s", "3 passed in N s"),
        ("1,234 images a second", "N images a second"),
        ("sweep 20261130-201500-0f3c", "sweep 20260101-120000-1a2b"),
        ("reading 9 images\nreading 3 of 9 images, 2 a second, 3 s left\nread\n", "reading 9 images\nread\n"),
        (
            "grad_cam: 9 of 9 images, about 3 passes\nexplaining 0 of 9 images\n",
            "grad_cam: 9 of 9 images, about 3 passes\n",
        ),
        ("a\ntraining: 31 s so far\nepoch  4/12: 2 of 12 steps, 99 images/s\nb\n", "a\nb\n"),
        ("image store: data_cache/store_de641d79394236aa", "image store: data_cache/store_N"),
        ("accuracy 0.522, 90 images, seed 1", "accuracy 0.522, 90 images, seed 1"),
    ],
)
def test_what_differs_from_run_to_run_is_replaced(printed, shown):
    assert worked_output.steady(printed) == shown
    assert worked_output.steady(shown) == shown


def test_paths_begin_in_the_folder_of_the_project(tmp_path):
    assert worked_output.without_paths(f"{tmp_path}/mlruns and {tmp_path}\n", tmp_path) == "mlruns and .\n"


def test_runs_are_named_in_the_order_of_their_mention(tmp_path):
    first, second = "b" * 32, "a" * 32
    names = worked_output.Names()
    names.learn(f"run {first}\n", tmp_path)
    (tmp_path / "mlruns" / "artifacts" / "1" / second).mkdir(parents=True)
    names.learn(f"compared {second[:8]} with {first[:8]}\n", tmp_path)
    shown = names.shown(f"{first} {second[:8]}")
    assert re.fullmatch(r"3f2a91c0[0-9a-f]{24} 91c07d12", shown)
    assert names.real("lesion-exp compare 3f2a91c0 91c07d12") == f"lesion-exp compare {first} {second}"


def test_a_command_that_fails_is_an_error_with_its_output(tmp_path, monkeypatch):
    monkeypatch.setitem(worked_output.PROJECTS, "failing", worked_output.Project(("echo reason; exit 3",)))
    with pytest.raises(RuntimeError, match=r"got 3:\nreason"):
        list(worked_output.outputs("failing", tmp_path / "failing"))


@pytest.mark.slow
@pytest.mark.parametrize("project", PORTABLE)
def test_outputs_without_a_training_are_what_is_still_printed(project, tmp_path):
    of_project = [one for one in BLOCKS if one.project == project and one.command.startswith(PORTABLE[project])]
    assert of_project
    printed = dict(worked_output.outputs(project, tmp_path / project, {one.command for one in of_project}))
    for block in of_project:
        assert worked_output.chosen(printed[block.command], block.shown) == block.body, (
            f"{name_of(block)}: run the script"
        )

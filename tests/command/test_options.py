"""Each option of a verb is parsed, refused, shown in the help and in the reference, from its declaration."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lesion_exp
from lesion_exp.command import compare
from lesion_exp.command.arguments import Arguments
from lesion_exp.command.chosen_run import ChosenRun
from lesion_exp.command.help import verb_help
from lesion_exp.command.verbs import VERBS
from lesion_exp.config.shipped_conf import conf_dir, documented_keys
from lesion_exp.errors import ConfigError
from lesion_exp.option import Choice, Devices, NamePairs, Names, Number, Place, Truth
from lesion_exp.verbs.predict.request import PredictionRequest
from scripts.reference import DOCS
from scripts.verb_reference import PAGE
from tests.own_process import restored
from tests.refusal import assert_refused

DECLARED = [(name, one) for name, verb in VERBS.items() for one in verb.declared()]
each_option = pytest.mark.parametrize(("name", "one"), DECLARED, ids=[f"{name}-{one.key}" for name, one in DECLARED])
WRONG = {Choice: "nonsense", Truth: "perhaps", Number: "many", Names: "a,,b", NamePairs: "[a]", Devices: "two"}
"""Values that no option of the kind takes."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LESION_EXP_TRUST", raising=False)
    with restored():
        yield


def wrong_value(one):
    """A value that the option does not take; empty where it takes every text."""
    if isinstance(one.kind, Place):
        return {"file": ".", "folder": __file__, "path": ""}[one.kind.what]
    return WRONG.get(type(one.kind), "")


def command(name, one, value):
    """A command that is right but for the `value` of the option."""
    before = {
        ("bundle", "input"): ["import"], ("bundle", "max_gib"): ["import"], ("bundle", "run"): ["export"],
        ("bundle", "output"): ["export"], ("train", "force"): ["-m"], ("train", "cell"): ["-m"],
        ("compare", one.key): ["a", "b"],
        ("sweep", one.key): ["status"],
    }.get((name, one.key), [])  # fmt: skip
    needed = [other.example for other in VERBS[name].declared() if other.is_required and other.key != one.key]
    return [name, *before, *needed, f"{one.key}={value}"]


@each_option
def test_a_good_value_is_parsed(name, one):
    assert one.kind.example, "a message may show it"
    value = one.read(one.kind.example.strip("'"))
    one.check(value)
    if one.written_default is not None:
        assert one.read(one.written_default) == one.default, "a default can be typed"


@each_option
def test_a_wrong_value_is_refused_by_its_verb(capsys, name, one):
    value = wrong_value(one)
    said = f"expected {one.key} to be {one.kind.expected}, got" if value else f"expected a value after {one.key}="
    assert_refused(capsys, command(name, one, value), said)


@each_option
def test_a_key_given_twice_is_refused(capsys, name, one):
    words = command(name, one, one.kind.example)
    assert_refused(capsys, [*words, words[-1]], f"expected {one.key}= once")


@each_option
def test_it_is_in_the_help_with_default_and_meaning(monkeypatch, name, one):
    monkeypatch.setenv("COLUMNS", "120")
    shown = one.written_default or one.kind.placeholder
    text = " ".join(verb_help(VERBS[name]).split())
    assert f" {one.key}={shown} " in text
    assert one.meaning in text
    assert not isinstance(one.kind, Choice) or f"{one.kind.expected}: {one.meaning}" in text


@each_option
def test_it_has_a_row_in_the_reference(name, one):
    _, _, rest = (DOCS / PAGE).read_text("utf-8").partition(f"\n## {name}\n")
    section, _, _ = rest.partition("\n## ")
    (row,) = [line for line in section.splitlines() if line.startswith(f"| `{one.key}` ")]
    assert one.kind.expected in row
    assert (" required " in row) == one.is_required
    assert one.written_default is None or f"`{one.written_default}`" in row


@pytest.mark.parametrize("name", VERBS)
def test_no_key_of_a_verb_is_declared_twice_and_those_of_the_config_exist(name):
    verb = VERBS[name]
    keys = [one.key for one in verb.declared()]
    of_config = [text for text, _ in verb.config_keys]
    assert len({*keys, *of_config}) == len(keys) + len(of_config)
    known = documented_keys(conf_dir(), dict(verb.chosen))
    for text in of_config:
        key, _, placeholder = text.partition("=")
        assert key in known or (key in verb.groups and placeholder), "the config has no such key"


def test_help_and_wrong_values_import_nothing_heavy():
    words = [command(name, one, wrong_value(one) or "") for name, one in DECLARED]
    code = (
        "import contextlib, io, sys\n"
        "from lesion_exp.cli import main\n"
        "from lesion_exp.command.verbs import VERBS\n"
        "heavy = ('hydra', 'omegaconf', 'numpy', 'torch', 'pandas', 'mlflow')\n"
        f"for words in [*([name, '--help'] for name in VERBS), *{words!r}]:\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "        code = main(words)\n"
        "    assert code == (0 if words[-1] == '--help' else 2), words\n"
        "    assert not set(heavy) & set(sys.modules), (words, set(heavy) & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["compare", "evaluate", "predict"])
def test_the_arguments_of_a_function_are_keys_of_its_verb(name):
    keys = {*VERBS[name].own_keys, "tracking.uri"}
    longer = {"part": "split.part", "data_root": "dataset.root", "tracking_uri": "tracking.uri"}
    longer["unit"] = "evaluation.bootstrap_unit"
    arguments = inspect.signature(getattr(lesion_exp, name)).parameters.values()
    named = {longer.get(one.name, one.name) for one in arguments if one.kind is one.KEYWORD_ONLY}
    assert named
    assert named <= keys


def test_the_data_of_a_run_are_named_by_one_declaration():
    readers = {"resume", "reproduce", "explain", "shortcuts", "export"}
    for key, verbs in (
        ("dataset.root", readers),
        ("split.path", readers | {"evaluate"}),
        ("dataset.pseudo_labels", readers | {"evaluate"}),
        ("backbone.weights", {"resume", "reproduce"}),
    ):
        declared = [(name, one) for name, one in DECLARED if one.key == key]
        assert {name for name, _ in declared} == verbs
        assert len({id(one.kind) for _, one in declared}) == 1
    moved = {name for name, verb in VERBS.items() if "dataset.sets.NAME=DIR" in dict(verb.words)}
    assert moved == readers | {"evaluate"}


def test_only_flags_that_a_verb_reads_are_in_its_help():
    assert "--full-tree" in verb_help(VERBS["train"])
    assert "--cfg job" in verb_help(VERBS["evaluate"])
    for name in ("serve", "predict", "report"):
        assert not re.search("--cfg|--no-tree|--full-tree", verb_help(VERBS[name])), name


def test_keys_are_parsed_in_one_place():
    """The other modules of the command ask for objects of their declarations."""
    parsing = re.compile(r"_take\(|partition\(\"=\"\)\[2\]|isdecimal|float\(|\(\"true\", \"false\"\)")
    folder = Path(sys.modules["lesion_exp.command.arguments"].__file__).parent
    found = {path.name for path in folder.glob("*.py") if parsing.search(path.read_text("utf-8"))}
    assert found == {"arguments.py"}


def test_what_other_modules_ask_for_is_an_object():
    arguments = Arguments(["input=x", "output=x.csv", "trainer.accelerator=mps", "top=3", "tracking.uri=u"])
    assert arguments.gives(PredictionRequest, "source")
    assert not arguments.gives(PredictionRequest, "tta")
    request = arguments.read(PredictionRequest, checkpoint=Path("a.ckpt"))
    assert (request.top, request.trainer, request.checkpoint) == (3, {"accelerator": "mps"}, Path("a.ckpt"))
    assert arguments.overrides == ["tracking.uri=u"], "what it does not declare is left"
    with pytest.raises(ConfigError, match=r"expected output=, got none; for example output=predictions.csv"):
        arguments.read(PredictionRequest)


def test_the_help_says_where_runs_are_kept_and_how_to_change_it():
    for name, verb in VERBS.items():
        text = " ".join(verb_help(verb).split())
        told = "paths.root=FOLDER folder of the project, where runs (mlruns), sweeps and prepared images" in text
        assert told == bool(verb.groups or verb.reads_store), name
    assert "paths.root=FOLDER" not in verb_help(VERBS["completion"])
    assert all("paths.root=FOLDER" in verb_help(VERBS[name]) for name in ("train", "prepare", "sweep"))


@pytest.mark.parametrize(
    ("words", "run"),
    [(["latest"], "latest"), (["best:val/accuracy"], "best:val/accuracy"), (["run=abcd"], "abcd")],
)
def test_the_name_of_a_run_alone_needs_no_key(words, run):
    arguments = Arguments([*words, "paths.root=somewhere"])
    assert arguments.read(ChosenRun).run == run
    assert arguments.named_runs == [run]
    assert arguments.overrides == ["paths.root=somewhere"]


def test_two_names_where_a_verb_takes_one_run_are_refused():
    with pytest.raises(ConfigError, match="expected run=, got none"):
        Arguments(["abcd", "latest"]).read(ChosenRun)


@pytest.mark.parametrize(
    "words", [["run=a1b2", "run=latest"], ["run=[a1b2, latest]"], ["run=a1b2", "latest"], ["a1b2", "latest"]]
)
def test_runs_to_compare_are_named_with_or_without_their_key(monkeypatch, words):
    named = []
    monkeypatch.setattr(compare, "compose_job", lambda arguments: named.extend(arguments.named_runs))
    arguments = Arguments([word for word in words if "=" in word], names=[word for word in words if "=" not in word])
    assert compare.compared(arguments) is None
    assert sorted(named) == ["a1b2", "latest"]
    assert not arguments.overrides

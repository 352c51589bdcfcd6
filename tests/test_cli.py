import errno
import os
import re
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import yaml

from lesion_exp import __version__
from lesion_exp.cli import main
from lesion_exp.command.verbs import FLAGS, VERB_FLAGS, VERBS
from lesion_exp.config.shipped_conf import conf_dir, option_names
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.progress import Stage
from tests.own_process import restored
from tests.screen import Screen, plain, whole_words


@pytest.fixture(autouse=True)
def as_in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Runs outside the checkout and undoes what a command sets for its process: logging, warnings, SIGTERM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LESION_EXP_TRUST", raising=False)
    with restored():
        yield


@pytest.fixture
def train_does(monkeypatch):
    """Replaces what `train` does; returns the arguments that it was called with."""

    def replace(action):
        calls = []

        def train(arguments):
            calls.append(arguments)
            return action()

        monkeypatch.setattr("lesion_exp.command.actions.train", train)
        return calls

    return replace


def raises(error):
    def action():
        raise error

    return action


def mistake(capsys, *arguments):
    """The message of a command that must end with 2, without a traceback and with nothing on standard output."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    told = re.sub(r"^[\w, ]+: \d+ s so far\n", "", shown.err, flags=re.MULTILINE)  # on a busy machine
    assert told.startswith("lesion-exp: expected")
    assert "Traceback" not in told
    return told


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_verb(capsys, arguments):
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert all(f"  {name} " in shown.out for name in VERBS)
    assert shown.err == ""


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lesion-exp {__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", VERBS)
def test_a_verb_explains_itself(capsys, monkeypatch, name, flag):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([name, "seed=1", flag]) == 0
    text = capsys.readouterr().out
    verb = VERBS[name]
    assert verb.summary in text
    assert all(example in text for example in verb.examples)
    assert ("--json" in text) == ("--json" in verb.flags)
    for group in verb.groups:
        for option in option_names(group, [conf_dir()]):
            assert re.search(rf"[\s\[]{option}[\s\]]", text), f"{group}={option} is not listed"


def test_keys_are_shown_with_their_default_and_meaning(capsys):
    main(["train", "--help"])
    text = capsys.readouterr().out
    for key in ("seed=0", "dataset.root=FOLDER", "optimizer.lr=1.0e-3", "trainer.max_epochs=20", "image_size=224"):
        assert re.search(rf"^  {re.escape(key)}\s+\w", text, re.MULTILINE), f"{key} has no meaning"


def test_the_folder_of_the_options_is_named_as_seen_from_here(capsys, monkeypatch):
    main(["train", "--help"])
    assert f"  {conf_dir()}/GROUP/OPTION.yaml lists" in capsys.readouterr().out
    monkeypatch.chdir(conf_dir().parent)
    main(["train", "--help"])
    assert f"  {conf_dir().name}/GROUP/OPTION.yaml lists" in capsys.readouterr().out


def test_an_unknown_verb_names_the_nearest(capsys):
    assert "did you mean 'train'" in mistake(capsys, "trian")


@pytest.mark.parametrize(("flag", "nearest"), [("--config-dri=x", "--config-dir"), ("--no-tre", "--no-tree")])
def test_an_unknown_flag_names_the_nearest(capsys, flag, nearest):
    assert nearest in mistake(capsys, "train", flag)


def test_json_is_a_flag_of_the_verbs_that_print_it(capsys):
    assert "--json" in mistake(capsys, "train", "--json")


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_needs_several_values_and_belongs_to_train(capsys, flag):
    assert "several values" in mistake(capsys, "train", flag, "seed=1")
    assert "train only" in mistake(capsys, "prepare", flag, "seed=1,2")


@pytest.mark.parametrize("override", ["launcher.workers=2", "search=random", "force=true"])
def test_what_is_about_sweeps_is_refused_for_one_run(capsys, override):
    assert f"expected -m beside {override}, " in mistake(capsys, "train", override)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "status|resume"),
        (("stauts",), "'status'"),
        (("status", "a", "b"), "one sweep"),
        (("status", "x"), "a sweep"),
    ],
)
def test_the_verb_sweep_says_what_it_takes(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert said in mistake(capsys, "sweep", *arguments)


@pytest.mark.parametrize("flag", ["--config-dir", "--trust", "--cfg"])
def test_a_flag_without_its_value_is_refused(capsys, flag):
    assert f"a value after {flag}" in mistake(capsys, "train", flag)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backbone=resnet19"], "'resnet18'"),
        (["trainer.max_epoch=3"], "'trainer.max_epochs'"),
        (["dataset=ham10000"], "dataset.root=DIR"),
        (["image_size=large"], "image_size"),
        (["--cfg", "hydra"], "--cfg job"),
        (["--config-dir", "none"], "--config-dir"),
        (["job=none.yaml"], "none.yaml"),
        (["job=none.yaml", "seed=1"], "alone"),
        (["dataset=ham10000", "dataset.root=none", "--no-tree"], "none"),
    ],
)
def test_a_mistake_of_the_user_is_one_message_and_2(capsys, arguments, said):
    assert said in mistake(capsys, "train", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resume", "run=latest", "seed=1"], "seed=1"),
        (["resume", "run=latest", "loss=focal"], "loss=focal"),
        (["resume", "run=latest", "--cfg", "job"], "--cfg job"),
        (["ui", "prot=5001"], "prot=5001"),
        (["ui", "port=0"], "from 1 to 65535"),
        (["ui", "port=99999"], "from 1 to 65535"),
        (["ui", "port=-1"], "from 1 to 65535"),
    ],
)
def test_a_verb_that_composes_no_run_refuses_what_it_would_not_read(capsys, arguments, said):
    assert said in mistake(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "run=latest", "input=x", "output=x.csv", "topp=5"], "got topp=5; did you mean 'top'?"),
        (["predict", "run=latest", "imput=x", "output=x.csv"], "expected input=, got imput=x;"),
        (["predict", "run=latest", "input=x", "output=x.csv", "batch_size=4"], "did you mean 'loader.batch_size'?"),
        (["serve", "run=latest", "potr=80"], "got potr=80; did you mean 'port'"),
        (["export", "run=latest", "fromat=onnx"], "expected format=, got fromat=onnx;"),
        (["register", "run=latest", "+aliass=x"], "got +aliass=x; did you mean 'alias'?"),
        (["explain", "run=latest", "trackin.uri=x"], "did you mean 'tracking.uri'"),
        (["evaluate", "run=latest", "calibraton=none"], "did you mean 'calibration'?"),
        (["compare", "a", "b", "agains=c"], "did you mean 'against'?"),
        (["shortcuts", "run=latest", "image=5"], "did you mean 'images'"),
        (["sweep", "status", "seed=1"], "got seed=1\n"),
        (["sync", "rnu=4"], "did you mean 'run'?"),
    ],
)
def test_a_key_that_a_verb_does_not_read_names_the_nearest(capsys, arguments, said):
    assert said in mistake(capsys, *arguments)


def test_options_are_told_once(capsys):
    told = mistake(capsys, "predict", "run=latest", "input=x", "output=x.csv", "calibration=foo")
    assert told.count("isotonic") == 1


@pytest.mark.parametrize("error", [ConfigError("expected this, got that"), DataError("expected this, got that")])
def test_a_users_mistake_found_late_is_told_in_the_same_way(capsys, train_does, error):
    train_does(raises(error))
    assert mistake(capsys, "train") == "lesion-exp: expected this, got that\n"


def test_an_error_of_our_own_is_1_and_says_what_it_was(capsys, train_does):
    train_does(raises(RuntimeError("out of luck")))
    assert main(["train"]) == 1
    shown = capsys.readouterr()
    assert "the run failed: RuntimeError: out of luck" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_the_notes_of_an_error_say_where_its_log_is(capsys, train_does):
    error = RuntimeError("out of luck")
    error.add_note("see log.txt of run abc")
    train_does(raises(error))
    assert main(["train"]) == 1
    assert "see log.txt of run abc" in capsys.readouterr().err


def test_ctrl_c_is_130_also_when_lightning_disguises_it(capsys, train_does):
    train_does(raises(KeyboardInterrupt()))
    assert main(["train"]) == 130
    disguised = SystemExit(1)
    disguised.__context__ = KeyboardInterrupt()
    train_does(raises(disguised))
    assert main(["train"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def verb_raises(monkeypatch):
    """Replaces what a verb does by an error."""

    def replaced(name, error):
        module = types.ModuleType("stopped_verb")
        module.do = lambda arguments: raises(error)()
        monkeypatch.setitem(sys.modules, "stopped_verb", module)
        monkeypatch.setitem(VERBS, name, replace(VERBS[name], target="stopped_verb:do"))

    return replaced


@pytest.mark.parametrize("name", VERBS)
def test_a_stopped_verb_says_what_is_true_of_it(capsys, verb_raises, name):
    for error, code in ((KeyboardInterrupt(), 130), (SystemExit(143), 143)):
        verb_raises(name, error)
        assert main([name]) == code
        told = capsys.readouterr().err
        assert VERBS[name].stopped
        assert VERBS[name].stopped in told
        assert "KILLED" not in told, "nobody knows of a run that had begun"


def test_where_it_was_stopped_knows_more_than_the_verb(capsys, train_does):
    stop = KeyboardInterrupt()
    stop.add_note("run abc; its log is log.txt")
    stop.add_note("the run is marked KILLED; lesion-exp resume run=abc goes on")
    train_does(raises(stop))
    assert main(["train"]) == 130
    told = capsys.readouterr().err
    assert "the run is marked KILLED; lesion-exp resume run=abc goes on" in told
    assert "no run was started" not in told


def test_a_failure_of_a_verb_that_trains_nothing_is_no_failed_run(capsys, verb_raises):
    verb_raises("evaluate", RuntimeError("out of luck"))
    assert main(["evaluate"]) == 1
    assert "the verb evaluate failed: RuntimeError: out of luck" in capsys.readouterr().err


def test_a_full_disk_of_which_no_file_is_known_has_a_remedy(capsys, verb_raises):
    verb_raises("evaluate", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert main(["evaluate"]) == 1
    assert "lesion-exp doctor shows how much each folder has left" in capsys.readouterr().err


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_data_set_is_shown_without_a_cut_word(width, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    root = tmp_path_factory.getbasetemp() / "shown"
    overrides = ["dataset=synthetic", "dataset.num_lesions=60", "dataset.image_height=32", "dataset.image_width=32"]
    assert main(["prepare", *overrides, f"paths.root={root}"]) == 0
    lines = plain(screen.getvalue())
    wide = [line for line in lines if len(line) > width and len(line.split()) > 1]
    assert wide == [], "only a single word, a path, may be longer than a line"
    named = {"class", "name", "train", "val", "test", "all", "akiec", "keratosis", "dermatofibroma", "melanocytic"}
    assert named <= whole_words(lines)
    assert "num_lesions=60" in whole_words(lines)
    assert not any("backbone" in line for line in lines)


def test_a_log_has_a_line_a_stage_and_no_control_character(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("FORCE_COLOR", "1")
    overrides = ["dataset=synthetic", "dataset.num_lesions=60", "dataset.image_height=32", "dataset.image_width=32"]
    assert main(["prepare", *overrides, f"paths.root={tmp_path}", "--full-tree"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.split("\n")
    assert any(re.fullmatch(r"reading \d+ images", line) for line in lines)
    assert {"splitting the data", "auditing the split"} <= set(lines)
    assert not {"\r", "\x1b"} & set(shown.err)
    assert "num_lesions=60" in shown.err
    assert "image_height=32" in shown.err


@pytest.mark.parametrize(("code", "expected"), [(143, 143), (3, 3), ("text", 1)])
def test_an_exit_keeps_its_code(train_does, code, expected):
    train_does(raises(SystemExit(code)))
    assert main(["train"]) == expected


def test_the_arguments_arrive_taken_apart(train_does):
    calls = train_does(lambda: 0)
    folders = ["--config-dir", "a", "--config-dir=b"]
    assert main(["train", "seed=1", *folders, "--trust", "mine", "~augmentation.transforms.rotate", "--no-tree"]) == 0
    (taken,) = calls
    assert taken.overrides == ["seed=1", "~augmentation.transforms.rotate"]
    assert [folder.name for folder in taken.config_dirs] == ["a", "b"]
    assert taken.trusted == ["mine"]
    assert not taken.show_tree


@pytest.mark.parametrize("flag", [["--cfg", "job"], ["--cfg=job"]])
def test_the_resolved_config_is_printed_and_nothing_done(capsys, tmp_path, flag):
    assert main(["train", "seed=5", "backbone=resnet50", *flag]) == 0
    shown = capsys.readouterr()
    config = yaml.safe_load(shown.out)
    assert (config["seed"], config["backbone"]["name"]) == (5, "resnet50")
    assert config["paths"]["root"] == str(tmp_path)
    assert shown.err == ""
    assert list(tmp_path.iterdir()) == []


def test_every_flag_of_the_help_is_understood(train_does):
    values = {"DIR": "somewhere", "PACKAGE": "mine", "job": "job"}
    for text in FLAGS:
        flag, _, value = text.partition(" ")
        if flag in VERB_FLAGS:
            continue
        train_does(lambda: 0)
        assert main(["train", flag, *([values[value]] if value else [])]) == 0


def imported_after(*arguments):
    """Exit code of a command in a process of its own, and which of the heavy packages it imported."""
    code = (
        "import sys; from lesion_exp.cli import main; code = main(sys.argv[1:]); "
        "print('heavy:', code, *(n for n in ('hydra', 'omegaconf', 'torch', 'pandas', 'mlflow') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    _, exit_code, *heavy = done.stdout.strip().splitlines()[-1].split()
    return int(exit_code), set(heavy)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["trian"], ["train", "--x"]])
def test_help_and_wrong_verbs_import_nothing_heavy(arguments):
    assert imported_after(*arguments)[1] == set()


@pytest.mark.parametrize("override", ["backbone=resnet19", "trainer.max_epoch=3", "image_size=large"])
def test_a_typo_is_found_before_torch_is_imported(override):
    code, heavy = imported_after("train", "-m", "seed=1,2", override)
    assert code == 2
    assert not heavy & {"torch", "pandas", "mlflow"}
    code, heavy = imported_after("train", override)
    assert code == 2
    assert not heavy & {"torch", "pandas", "mlflow"}


@pytest.mark.parametrize(
    ("words", "work"), [(["train"], "working on the run"), (["train", "-m"], "working on the sweep")]
)
def test_a_progress_line_names_the_work_of_the_command(words, work, monkeypatch):
    named = []

    class Named(Stage):
        def __init__(self, name, **options):
            named.append(name)
            super().__init__(name, **options)

    monkeypatch.setattr("lesion_exp.cli.Stage", Named)
    assert main([*words, "backbone=nowhere"]) == 2
    assert named == [work]

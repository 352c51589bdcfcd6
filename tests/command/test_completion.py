import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lesion_exp.cli import main
from lesion_exp.command.completion import LINE, SCRIPTS, candidates
from lesion_exp.command.verbs import VERBS
from lesion_exp.config.shipped_conf import conf_dir, document_names, option_names


@pytest.fixture
def folder(tmp_path):
    """A project with three runs and two sweeps."""
    (tmp_path / "mlruns").mkdir()
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as store:
        store.execute("CREATE TABLE runs (run_uuid TEXT, lifecycle_stage TEXT, start_time INTEGER)")
        rows = [("aa" * 16, "active", 1), ("ab" * 16, "active", 2), ("ac" * 16, "deleted", 3)]
        store.executemany("INSERT INTO runs VALUES (?, ?, ?)", rows)
        store.execute("CREATE TABLE registered_model_aliases (alias TEXT, name TEXT)")
        store.execute("INSERT INTO registered_model_aliases VALUES ('champion', 'lesions')")
        store.commit()
    for name in ("20260101-1200", "20260102-1200"):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lesion-exp tra", ["train"]),
        ("lesion-exp --v", ["--version"]),
        ("lesion-exp train optim", ["optimizer=", "optimizer."]),
        ("lesion-exp train trainer.max_e", ["trainer.max_epochs="]),
        ("lesion-exp train loss=focal loss.gam", ["loss.gamma="]),
        ("lesion-exp train loss=cross_entropy loss.gam", []),
        ("lesion-exp train -m loss=focal,cro", ["loss=focal,cross_entropy"]),
        ("lesion-exp train evaluation.tta=", [f"evaluation.tta={name}" for name in ("none", "flips8", "multicrop")]),
        ("lesion-exp train print_config=", ["print_config=true", "print_config=false"]),
        ("lesion-exp train augmentation/mix=mix", ["augmentation/mix=mixup"]),
        ("lesion-exp train --conf", ["--config-dir"]),
        ("lesion-exp evaluate --wa", []),
        (
            "lesion-exp evaluate run=",
            ["latest", "best:val/balanced_accuracy", "champion", "abababababab", "aaaaaaaaaaaa"],
        ),
        ("lesion-exp export run=ch", ["champion"]),
        ("lesion-exp compare ch", ["champion"]),
        ("lesion-exp compare R", []),
        ("lesion-exp schema lo", ["loss"]),
        ("lesion-exp export format=onnx", ["format=onnx", "format=onnx_int8"]),
        (
            "lesion-exp train backbone.lora.",
            [f"backbone.lora.{name}=" for name in ("rank", "alpha", "dropout", "layers")],
        ),
        ("lesion-exp evaluate run=ab", ["abababababab"]),
        ("lesion-exp evaluate run=abababababababab", ["abababababababab"]),
        ("lesion-exp compare a", ["abababababab", "aaaaaaaaaaaa", "against="]),
        ("lesion-exp sweep ", ["status", "resume", "retry", "cancel"]),
        ("lesion-exp sweep status ", ["latest", "20260102-1200", "20260101-1200"]),
        ("lesion-exp report sweep=la", ["latest"]),
        ("lesion-exp completion ", ["bash", "zsh", "fish"]),
        ("lesion-exp nothing ", []),
        ("lesion-exp train --config-dir ", []),
        ("lesion-exp train dataset.root='/my data", []),
    ],
)
def test_the_words_that_may_stand_there_are_offered(folder, line, expected):
    found = [word.removeprefix("run=").removeprefix("sweep=") for word in candidates(line, folder)]
    assert found == expected


def test_every_schema_is_offered_and_no_other(folder):
    assert candidates("lesion-exp schema ", folder) == [*document_names([conf_dir()]), "output="]
    (folder / "my conf" / "my_group").mkdir(parents=True)
    (folder / "my conf" / "my_group" / "one.yaml").write_text("a: 1\n")
    assert candidates(f"lesion-exp schema --config-dir '{folder / 'my conf'}' my", folder) == ["my_group"]


def test_all_verbs_groups_and_options_are_offered(folder):
    assert set(VERBS) < set(candidates("lesion-exp ", folder))
    first = candidates("lesion-exp train ", folder)
    for group in VERBS["train"].groups:
        assert f"{group}=" in first
        expected = [f"{group}={name}" for name in option_names(group, [conf_dir()])]
        assert candidates(f"lesion-exp train {group}=", folder) == expected


def test_a_key_that_was_given_is_not_offered_again(folder):
    assert "loss=" not in candidates("lesion-exp train loss=focal ", folder)


def test_options_of_ones_own_folder_are_offered(folder):
    (folder / "mine" / "loss").mkdir(parents=True)
    (folder / "mine" / "loss" / "margin.yaml").write_text("_target_: my_package.margin\n")
    line = f"lesion-exp train --config-dir {folder / 'mine'} loss=mar"
    assert candidates(line, folder) == ["loss=margin"]


def test_a_project_without_a_store_and_one_with_a_broken_store_offer_the_general_words(tmp_path):
    line = "lesion-exp evaluate run="
    assert candidates(line, tmp_path) == ["run=latest", "run=best:val/balanced_accuracy"]
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("no database")
    assert candidates(line, tmp_path) == ["run=latest", "run=best:val/balanced_accuracy"]


def test_a_wrong_shell_is_a_mistake(capsys):
    assert main(["completion", "zhs"]) == 2
    assert "did you mean 'zsh'" in capsys.readouterr().err
    assert main(["completion"]) == 2
    assert "expected a shell" in capsys.readouterr().err


@pytest.fixture
def on_the_path():
    """An environment in which `lesion-exp` is the command of these tests."""
    own = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ['PATH']}"}


def test_nothing_heavy_is_imported(folder, on_the_path):
    code = (
        "import sys; from lesion_exp.command.completion import candidates; from pathlib import Path; "
        "candidates('lesion-exp train loss=', Path.cwd()); candidates('lesion-exp evaluate run=', Path.cwd()); "
        "print([name for name in ('torch', 'numpy', 'pandas', 'mlflow', 'hydra') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lesion-exp tra", "train"),
        ("lesion-exp train loss=foc", "focal"),
        ("lesion-exp train trainer.max_ep", "trainer.max_epochs="),
    ],
)
def test_bash_completes(folder, on_the_path, line, offered):
    script = (
        f'eval "$(lesion-exp completion bash)"\nCOMP_LINE={line!r}\nCOMP_POINT=${{#COMP_LINE}}\n'
        '_lesion_exp\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    answer = subprocess.run(
        ["bash", "-c", script], env=on_the_path, cwd=folder, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [offered]


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "offered"), [("lesion-exp tra", "train"), ("lesion-exp train loss=foc", "loss=focal")]
)
def test_fish_completes(folder, on_the_path, line, offered):
    script = f"lesion-exp completion fish | source; complete --do-complete '{line}'"
    answer = subprocess.run(
        ["fish", "-c", script], env=on_the_path, cwd=folder, capture_output=True, text=True, check=True
    )
    assert offered in answer.stdout.split()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("line", "completed"), [("lesion-exp tra", "lesion-exp train"), ("lesion-exp train loss=foc", "loss=focal")]
)
def test_zsh_completes(folder, on_the_path, line, completed):
    """An interactive shell in a terminal of its own, into which the line and a tab are typed."""
    script = f"""
        zmodload zsh/zpty
        typed() {{
            local until=$((SECONDS + 60)) out= part
            while [[ $SECONDS -lt $until && "$out" != *"$1"* ]]; do
                zpty -rt shell part && out+=$part || sleep 0.1
            done
            print -r -- "$out"
        }}
        zpty -b shell zsh -f -i
        zpty -w shell 'PROMPT=; autoload -Uz compinit; compinit -u -D; eval "$(lesion-exp completion zsh)"'
        zpty -w shell 'print RE""ADY'
        typed READY >/dev/null
        zpty -w -n shell $'{line}\\t'
        typed '{completed}'
        zpty -d shell
    """
    answer = subprocess.run(["zsh", "-f", "-c", script], env=on_the_path, cwd=folder, capture_output=True, text=True)
    assert completed in answer.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_valid(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    checked = subprocess.run([shell, "-n"], input=SCRIPTS[shell], text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_the_command_prints_the_words_for_the_line_of_the_environment(folder, on_the_path):
    answer = subprocess.run(
        ["lesion-exp"],
        env={**on_the_path, LINE: "lesion-exp evaluate run=ab"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == ["run=abababababab"]

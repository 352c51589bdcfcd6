import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from lesion_exp.cli import main
from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.launcher import slurm
from lesion_exp.sweeps.launcher.launcher import make_launcher
from lesion_exp.sweeps.launcher.several_nodes import check_nodes
from lesion_exp.sweeps.launcher.slurm import (
    ENGINE_VARIABLES,
    WARNING_SIGNALS,
    CellTask,
    job_name,
    last_error,
    torchrun_words,
)
from lesion_exp.sweeps.ledger import find_sweep
from lesion_exp.tracking.find import runs_where
from tests.sweeps.conftest import TINY
from tests.sweeps.test_whole_sweep import FAILS, runs_by_cell, start, wait_for

NODE = {
    "_target_": "lesion_exp.sweeps.launcher.slurm.SlurmLauncher",
    "partition": "long",
    "nodes": 1,
    "minutes": 90,
    "parallel": 4,
    "gpus_per_job": 2,
    "cpus_per_job": 6,
    "memory_gb": 1.5,
    "requeues": 1,
    "grace_seconds": 45,
    "poll_seconds": 0.0,
    "setup": ["module load cuda"],
    "sbatch": {"account": "lab", "mail_user": "me", "exclusive": True},
    "fail_fast": False,
}
COMMANDS = {
    "sbatch": 'cat "$1" >> {folder}/submitted; env > {folder}/environment; echo "Submitted batch job 7"',
    "squeue": "cat {folder}/living",
    "scancel": 'echo "$@" >> {folder}/cancelled; : > {folder}/living',
    "scontrol": 'echo "JobId=7 JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125"',
    "srun": "exit 1",
}


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """SLURM's commands as scripts, which keep what they were given; submitit is the real one."""
    pytest.importorskip("submitit")
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "living").touch()
    for name, text in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text.format(folder=folder)}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_every_key_reaches_sbatch(pretended, planned):
    sweep = planned("seed=1,2,3,4,5,6")
    launcher = make_launcher(NODE)
    launcher.open(sweep)
    launcher.start(sweep.cells())
    lines = (pretended / "submitted").read_text().splitlines()
    given = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert given >= {
        "partition=long",
        "nodes=1",
        "ntasks-per-node=1",
        "time=90",
        "array=0-5%4",
        "gpus-per-node=2",
        "cpus-per-task=6",
        "mem=1536M",
        "signal=USR2@45",
        "account=lab",
        "mail-user=me",
        "exclusive",
        "requeue",
        f"job-name={job_name(sweep)}",
    }
    assert "module load cuda" in lines
    assert any("srun" in line and "--cpus-per-task=6" in line for line in lines), "srun does not take it from sbatch"
    assert [cell.engine_id() for cell in sweep.cells()] == [f"7_{place}" for place in range(6)]


def test_a_cell_has_no_more_threads_than_the_user_says(pretended, planned, monkeypatch):
    given = []
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setattr(slurm, "CellTask", lambda folder, variables, *_: given.append(variables) or print)
    sweep = planned("seed=1,2")
    launcher = make_launcher(NODE)
    launcher.open(sweep)
    launcher.start(sweep.cells())
    assert [variables["OMP_NUM_THREADS"] for variables in given] == ["5", "5"]


def test_a_cell_on_several_nodes_has_a_task_on_each(pretended, planned):
    sweep = planned("seed=1,2", "trainer=ddp_cpu", "trainer.num_nodes=2", "launcher=slurm")
    launcher = make_launcher({**NODE, "nodes": 2})
    launcher.open(sweep)
    launcher.start(sweep.cells())
    given = (pretended / "submitted").read_text()
    assert "#SBATCH --nodes=2\n" in given
    assert "#SBATCH --ntasks-per-node=1\n" in given
    with pytest.raises(ConfigError, match=r"trainer.num_nodes=1 with launcher.nodes=1, got 2 in cell 0"):
        check_nodes(sweep.cells()[0], 1)


def test_sbatch_finds_the_cluster_and_hears_nothing_of_the_job_from_which_it_is_called(pretended, planned, monkeypatch):
    kept = {"SLURM_CONF": "/of/the/cluster", "SBATCH_QOS": "low", "SUBMITIT_PREEMPT_SIGNAL": "USR1"}
    hidden = {"SLURM_JOB_ID": "5", "SBATCH_TIMELIMIT": "1", "SBATCH_ACCOUNT": "of another", "RANK": "0"}
    for name, text in {**kept, **hidden}.items():
        monkeypatch.setenv(name, text)
    sweep = planned("seed=1,2")
    launcher = make_launcher(NODE)
    launcher.open(sweep)
    launcher.start(sweep.cells())
    seen = dict(line.split("=", 1) for line in (pretended / "environment").read_text().splitlines() if "=" in line)
    assert {name: seen[name] for name in kept} == kept
    assert not set(hidden) & set(seen), "launcher.sbatch.account is given, and sbatch would prefer the variable"
    assert {name: os.environ[name] for name in hidden} == hidden


PYTHON = """#!/bin/sh
env > {folder}/environment
sh -c 'echo $$ > {folder}/child; sleep 2' &
echo $$ > {folder}/program
wait
"""


@pytest.fixture
def cell_program(tmp_path, monkeypatch):
    """The folder of a cell whose program takes two seconds in a child, and writes its environment and both ids."""
    (tmp_path / "python").write_text(PYTHON.format(folder=tmp_path))
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("number", WARNING_SIGNALS)
def test_the_processes_of_a_cell_survive_the_warning_that_slurm_sends_to_all_of_a_job(cell_program, number):
    def warn():
        for name in ("program", "child"):
            while not (cell_program / name).exists() or not (cell_program / name).read_text():
                time.sleep(0.01)
            os.kill(int((cell_program / name).read_text()), number)

    warning = threading.Thread(target=warn)
    warning.start()
    assert CellTask(cell_program, {}, ())() == 0
    warning.join()


def test_a_cell_knows_its_job_and_its_cores_and_is_no_task_of_it(cell_program, monkeypatch):
    job = {"SLURM_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "3"}
    for name, text in {**job, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "a sweep"}.items():
        monkeypatch.setenv(name, text)
    CellTask(cell_program, {}, ENGINE_VARIABLES)()
    seen = dict(line.split("=", 1) for line in (cell_program / "environment").read_text().splitlines() if "=" in line)
    assert {name: text for name, text in seen.items() if name.startswith("SLURM")} == job


ON_TWO_NODES = {
    "SLURM_JOB_ID": "41", "SLURM_STEP_ID": "0", "SLURM_NNODES": "2", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_PROCID": "1", "SLURM_LOCALID": "0",
}  # fmt: skip
"""The second task of a step on two nodes."""


def test_the_task_of_a_node_starts_its_processes_by_torchrun():
    words = torchrun_words(ON_TWO_NODES, 2, 4)
    assert {"--nnodes=2", "--node-rank=1", "--nproc-per-node=4", "--master-addr=gpu07"} < set(words)
    first = torchrun_words({**ON_TWO_NODES, "SLURM_PROCID": "0"}, 2, 4)
    assert set(words) ^ set(first) == {"--node-rank=0", "--node-rank=1"}
    with pytest.raises(ConfigError, match=r"launcher.nodes=3 nodes, got 2"):
        torchrun_words(ON_TWO_NODES, 3, 4)
    with pytest.raises(ConfigError, match=r"one task on each of launcher.nodes=2 nodes, got 8"):
        torchrun_words({**ON_TWO_NODES, "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}, 2, 4)


@pytest.mark.long
def test_a_cell_on_two_nodes_is_one_run(planned):
    given = ("trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "trainer.max_epochs=1", "launcher=slurm")
    sweep = planned("seed=1,2", *given)
    cell = sweep.cells()[0]
    call = "import sys, pathlib; from lesion_exp.sweeps.launcher.slurm import CellTask, ENGINE_VARIABLES\n"
    call += f"sys.exit(CellTask(pathlib.Path({str(cell.folder)!r}), {{}}, ENGINE_VARIABLES, 2)())"
    job = {**ON_TWO_NODES, "SLURM_STEP_NODELIST": "localhost,localhost", "SLURM_JOB_ID": str(os.getpid())}
    tasks = [
        subprocess.Popen([sys.executable, "-c", call], env={**os.environ, **job, "SLURM_PROCID": rank})
        for rank in ("0", "1")
    ]
    assert [task.wait(timeout=600) for task in tasks] == [0, 0], (cell.folder / "log.txt").read_text()
    assert (cell.state().status, cell.state().attempts) == ("finished", 1)
    runs = runs_where(cell.job().project.store, f"tags.sweep_id = '{sweep.facts.sweep_id}'")
    assert [run.status for run in runs] == ["FINISHED"]


def test_jobs_that_slurm_still_has_are_adopted_and_unknown_ones_cancelled(pretended, planned):
    first, second, third = planned("seed=1,2,3").cells()
    first.record_engine_id("7_0")
    second.record_engine_id("7_1")
    (pretended / "living").write_text("7_1\n8\n")
    launcher = make_launcher(NODE)
    launcher.open(find_sweep(first.folder.parents[2], "latest"))
    assert [launcher.adopt(cell) for cell in (first, second, third)] == [False, True, False]
    assert (pretended / "cancelled").read_text() == "8\n"
    assert launcher.parameters(find_sweep(first.folder.parents[2], "latest"), busy=1)["array_parallelism"] == 3


def test_a_job_that_slurm_ended_without_a_word_has_its_reason(pretended, planned):
    cell = planned("seed=1,2").cells()[0]
    cell.record_engine_id("7")
    (pretended / "living").write_text("7\n")
    launcher = make_launcher(NODE)
    launcher.open(find_sweep(cell.folder.parents[2], "latest"))
    assert launcher.adopt(cell)
    cell.write(status="running", host="node-1", attempts=1)
    assert launcher.wait(0.0) == []
    (pretended / "living").write_text("")
    (cell.folder.parents[1] / "slurm").mkdir()
    (cell.folder.parents[1] / "slurm" / "7_0_log.out").write_text(LOG_OF_SLURM)
    (ended,) = launcher.wait(0.0)
    assert ended.cell == cell
    assert ended.reason.endswith("is OUT_OF_MEMORY (OutOfMemory): Exceeded job memory limit")


LOG_OF_SLURM = """\
submitit INFO (2026-12-01 03:24:58,068) - Starting with JobEnvironment(job_id=7)
slurmstepd-node-a: error: of an earlier start
submitit INFO (2026-12-01 03:30:22,354) - Starting with JobEnvironment(job_id=7)
slurmstepd-node-a: error: StepId=2.0 exceeded memory limit (228233216 > 214958080), being killed
slurmstepd-node-a: error: Exceeded job memory limit
slurmstepd-node-a: error: *** STEP 2.0 ON node-a CANCELLED AT 2026-12-01T03:30:05 ***
srun: error: node-a: task 0: Killed
"""


def test_the_log_of_an_earlier_start_and_a_log_that_is_missing_are_no_reason(tmp_path):
    (tmp_path / "log").write_text(LOG_OF_SLURM.rpartition("slurmstepd-node-a: error: StepId")[0])
    assert last_error(tmp_path / "log") is None
    assert last_error(tmp_path / "missing") is None


def test_a_sweep_without_a_driver_is_cancelled_by_its_name(pretended, planned):
    sweep = planned("seed=1,2")
    (pretended / "living").write_text("7_0\n7_1\n")
    assert make_launcher(NODE).cancel(sweep)
    assert f"--name={job_name(sweep)}" in (pretended / "cancelled").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"minutes": 0}, "launcher.minutes of at least 1"),
        ({"minutes": 1, "grace_seconds": 60}, "below the time limit, 60 seconds"),
        ({"sbatch": {"time": 5}}, "expected launcher.minutes"),
        ({"sbatch": {"requeue": False}}, "launcher.sbatch.requeue"),
        ({"workers": 2}, "launcher.workers"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(pretended, changes, words):
    with pytest.raises(ConfigError, match=words):
        make_launcher({**NODE, **changes})


def test_a_machine_without_slurm_is_no_place_to_start_from(pretended, monkeypatch):
    monkeypatch.setenv("PATH", str(pretended.parent))
    with pytest.raises(ConfigError, match="login node"):
        make_launcher(NODE)


def test_missing_commands_are_told_before_the_cells_are_composed_or_data_are_read(
    pretended, monkeypatch, tmp_path, own_process, capsys
):
    def too_late(*_, **__):
        raise AssertionError("the commands are checked first")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lesion_exp.sweeps.plan.CellMaker.freeze", too_late)
    monkeypatch.setattr("lesion_exp.verbs.leakage.plan.check_cell", too_late)
    (pretended / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(pretended))
    for words in (["train", "-m", "seed=1,2"], ["leakage", "trainer.max_epochs=1"]):
        assert main([*words, "dataset=synthetic", "launcher=slurm"]) == 2
        assert "but there is no sbatch; start the sweep on a login node" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="this machine has a GPU")
def test_a_gpu_is_not_looked_for_on_the_login_node(planned):
    with pytest.raises(ConfigError, match="this machine has 0"):
        planned("seed=1,2", "trainer.accelerator=gpu")
    assert len(planned("seed=1,2", "trainer.accelerator=gpu", "launcher=slurm").cells()) == 2


def slurm_answers():
    found = shutil.which("sinfo")
    return found is not None and subprocess.run([found], capture_output=True, check=False, timeout=20).returncode == 0


real = pytest.mark.skipif(not slurm_answers(), reason="there is no SLURM on this machine")
ON_SLURM = ("launcher=slurm", "launcher.gpus_per_job=0", "launcher.cpus_per_job=1", "launcher.poll_seconds=1")


@real
@pytest.mark.slow
def test_a_sweep_on_slurm_survives_its_driver_and_a_requeue(tmp_path, call):
    process = start("train", "-m", *TINY, "trainer.max_epochs=20", FAILS, "seed=1,2", *ON_SLURM)
    sweep = wait_for(lambda: find_sweep(tmp_path / "sweeps", "latest"))
    cells = sweep.cells()
    wait_for(lambda: cells[0].epochs())
    subprocess.run(["scontrol", "requeue", cells[0].engine_id()], check=True)
    wait_for(lambda: cells[0].state().note == "stopped")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    tickets = [cell.engine_id() for cell in cells]
    code, _, err = call("sweep", "resume")
    assert code == 1, err
    assert [cell.state().status for cell in cells] == ["finished", "finished", "failed", "failed"], err
    assert [cell.state().attempts for cell in cells] == [2, 1, 1, 1]
    assert [cell.engine_id() for cell in cells] == tickets, "nothing was given to SLURM twice"
    assert runs_by_cell(tmp_path, sweep)[:2] == [("0000", "FINISHED"), ("0001", "FINISHED")]


@real
@pytest.mark.slow
def test_cancel_reaches_slurm_without_a_driver(tmp_path, call):
    process = start("train", "-m", *TINY, "trainer.max_epochs=400", "seed=1,2", *ON_SLURM)
    sweep = wait_for(lambda: find_sweep(tmp_path / "sweeps", "latest"))
    wait_for(lambda: sweep.cells()[0].epochs())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    began = time.monotonic()
    code, _, err = call("sweep", "cancel")
    assert code == 0, err
    assert time.monotonic() - began < 90
    assert [cell.state().status for cell in sweep.cells()] == ["cancelled", "cancelled"]
    assert subprocess.check_output(["squeue", "-h", f"--name={job_name(sweep)}"]) == b""
    assert Path(tmp_path / "mlruns").is_dir()

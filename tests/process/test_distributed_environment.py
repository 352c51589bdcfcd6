import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lesion_exp.cli import main
from lesion_exp.cores import usable_cores
from lesion_exp.errors import ConfigError
from lesion_exp.process.distributed_environment import (
    RANK_VARIABLES,
    TASK_VARIABLES,
    environment_without_rank,
    ignore_leftovers,
    inherited_group,
    is_follower,
    join_group,
    refuse_group,
    run_modules,
)
from lesion_exp.tracking.find import runs_where
from lesion_exp.tracking.stored_run import read_predictions
from lesion_exp.training.run import train

TORCHRUN = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29501"}
SRUN = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "gpu[03-05,9]", "SLURM_NNODES": "1",
    "ENVIRONMENT": "BATCH",
}  # fmt: skip
"""The second of two tasks that srun started within a batch script on one machine."""
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "ENVIRONMENT": "BATCH"}
"""A batch script itself, which is no task."""
ALONE = {
    **TORCHRUN, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
    "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip
"""The only process of `torchrun --nproc-per-node=1`."""
MPIRUN = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables for a test; what the code changes is undone as well."""
    for name in (*RANK_VARIABLES, *TASK_VARIABLES):
        monkeypatch.setenv(name, "")  # so that each is restored
        monkeypatch.delenv(name)

    def change(variables):
        for name, text in variables.items():
            monkeypatch.setenv(name, text)

    return change


@pytest.mark.parametrize("variables", [TORCHRUN, SRUN, {**SRUN, "SLURM_STEP_NUM_TASKS": "", "ENVIRONMENT": ""}])
def test_a_rank_joins_the_group_that_fits_the_job(environment, variables):
    environment(variables)
    group = join_group(2, 1)
    assert (group.world_size, group.rank, group.local_rank) == (2, 1, 1)
    assert (os.environ["LOCAL_RANK"], os.environ["NODE_RANK"], os.environ["RANK"]) == ("1", "0", "1")
    assert os.environ["MASTER_ADDR"] == "127.0.0.1"
    assert 1024 < int(os.environ["MASTER_PORT"]) < 65536


def test_a_rank_of_the_second_machine_knows_its_place(environment):
    environment({**TORCHRUN, "WORLD_SIZE": "4", "RANK": "3"})
    join_group(2, 2)
    assert (os.environ["LOCAL_RANK"], os.environ["NODE_RANK"]) == ("1", "1")
    environment({**SRUN, "SLURM_NNODES": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"})
    assert inherited_group({**SRUN, "SLURM_NNODES": "2"}).address == "gpu03"
    assert inherited_group({**SRUN, "SLURM_NNODES": "2", "SLURM_NODELIST": "a01,a02"}).address == "a01"


@pytest.mark.parametrize(
    ("variables", "num_devices", "says"),
    [
        (TORCHRUN, 1, "one of the 1 process .trainer.devices=1.*WORLD_SIZE=2 RANK=1"),
        (TORCHRUN, 3, "start 3, or set trainer=ddp"),
        ({**TORCHRUN, "RANK": "2"}, 2, "RANK=2"),
        ({**TORCHRUN, "LOCAL_RANK": "0"}, 2, "unset WORLD_SIZE RANK LOCAL_RANK"),
        (SRUN, 1, "SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1"),
        (SRUN, 4, "unset SLURM_STEP_NUM_TASKS SLURM_PROCID"),
        (MPIRUN, 1, "OMPI_COMM_WORLD_SIZE=2"),
        (MPIRUN, 2, "expected torchrun or srun as the starter"),
    ],
)
def test_a_group_that_contradicts_the_job_is_refused(environment, variables, num_devices, says):
    environment(variables)
    with pytest.raises(ConfigError, match=says):
        join_group(num_devices, 1)


@pytest.mark.parametrize(("machines", "per_machine"), [(2, 2), (2, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("job", [(1, 1), (2, 1), (4, 1), (2, 2), (1, 4), (5, 1)])
@pytest.mark.parametrize("starter", ["torchrun", "srun"])
def test_the_keys_in_the_refusal_of_a_group_fit_each_of_its_processes(machines, per_machine, job, starter):
    size = machines * per_machine
    for rank in range(size):
        local = rank % per_machine
        of_torchrun = {"WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": per_machine}
        of_srun = {"SLURM_STEP_NUM_TASKS": size, "SLURM_PROCID": rank, "SLURM_LOCALID": local, "SLURM_NNODES": machines}
        found = {**TORCHRUN, **of_torchrun} if starter == "torchrun" else {**SRUN, **of_srun}
        group = inherited_group({name: str(value) for name, value in found.items()})
        if job == (per_machine, machines):
            group.check_fits(*job)
            continue
        with pytest.raises(ConfigError) as refused:
            group.check_fits(*job)
        said = re.search(r"ddp_cpu with trainer\.devices=(\d+)(?: trainer\.num_nodes=(\d+))?;", str(refused.value))
        group.check_fits(int(said[1]), int(said[2] or job[1]))


@pytest.mark.parametrize(
    ("variables", "local_rank", "node"),
    [
        ({**TORCHRUN, "WORLD_SIZE": "6", "RANK": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3"}, "1", "1"),
        (ALONE, "0", "0"),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_NNODES": "2"}, "1", "1"),
    ],
)
def test_a_run_that_goes_on_may_have_another_number_of_processes(environment, variables, local_rank, node):
    environment(variables)
    assert join_group(2, 1, any_number=True) is not None
    assert (os.environ["LOCAL_RANK"], os.environ["NODE_RANK"]) == (local_rank, node)


def test_the_one_task_that_slurm_gives_a_command_is_no_group_to_go_on_with(environment):
    environment({**SRUN, "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    assert join_group(2, 1, any_number=True) is None  # it starts the two processes of its job itself


def test_one_process_of_torchrun_is_kept_for_a_run_that_goes_on_and_no_child_sees_its_store(environment):
    environment(ALONE)
    ignore_leftovers(keep_one=True)
    assert set(ALONE) <= set(os.environ)
    assert "TORCHELASTIC_USE_AGENT_STORE" not in environment_without_rank()
    assert join_group(1, 1, any_number=True) is None  # a job of one process needs no group
    assert not set(ALONE) & set(os.environ)
    environment({**ALONE, "TORCHELASTIC_RUN_ID": ""})
    os.environ.pop("TORCHELASTIC_RUN_ID")
    ignore_leftovers(keep_one=True)  # no torchrun started it
    assert not set(ALONE) & set(os.environ)


@pytest.mark.parametrize(("verb", "joins"), [("resume", True), ("train", True), ("audit", False)])
def test_verbs_that_train_see_the_one_process_of_torchrun(environment, monkeypatch, tmp_path, verb, joins):
    environment({**ALONE, "TORCHELASTIC_USE_AGENT_STORE": "False"})
    seen = []

    def look(*_, **__):
        seen.append("TORCHELASTIC_RUN_ID" in os.environ)
        raise ConfigError("seen")

    for module in ("actions", "audit"):  # else they would be imported below, and keep `look` for later tests
        importlib.import_module(f"lesion_exp.command.{module}")
    monkeypatch.setattr("lesion_exp.command.arguments.compose_config", look)
    monkeypatch.chdir(tmp_path)
    words = {"resume": ["run=latest"], "train": [], "audit": []}[verb]
    assert main([verb, *words]) == 2
    assert seen == [joins]


@pytest.mark.parametrize("processes", [(2, 1), (1, 2), (6, 1)])
def test_devices_that_contradict_the_starter_are_refused(environment, processes):
    environment({**TORCHRUN, "WORLD_SIZE": "6", "RANK": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "3"})
    group = join_group(*processes, any_number=True)
    with pytest.raises(ConfigError, match=r"got 3 process.es. on each of 2 machine.s. .*leave trainer.devices out"):
        group.check_chosen(processes)
    group.check_chosen((3, 2))


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({**TORCHRUN, "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}, "the same number of processes on each machine"),
        (TORCHRUN, "the same number of processes on each machine"),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "3", "SLURM_NNODES": "2"}, "--distribution=block"),
        ({**SRUN, "SLURM_LOCALID": "0"}, "--distribution=block"),
    ],
)
def test_machines_with_different_numbers_of_processes_are_refused(environment, variables, says):
    environment(variables)
    with pytest.raises(ConfigError, match=says):
        join_group(2, 1, any_number=True)


def test_the_first_process_leads_and_the_others_follow(environment):
    assert not is_follower()
    environment({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"})
    assert not is_follower()
    environment(TORCHRUN)
    assert is_follower()


@pytest.mark.parametrize(
    "variables",
    [
        {"LOCAL_RANK": "0"},
        {"LOCAL_RANK": "1"},
        {"WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1"},
        {"RANK": "none", "WORLD_SIZE": "2"},
        {**TORCHRUN, "MASTER_PORT": ""},
    ],
)
@pytest.mark.parametrize("num_devices", [1, 2])
def test_what_was_left_behind_is_ignored_with_a_word(environment, caplog, variables, num_devices):
    environment(variables)
    assert join_group(num_devices, 1) is None
    assert "ignored variables that neither torchrun nor srun set" in caplog.text
    assert all(f"{name}={text}" in caplog.text for name, text in variables.items())
    assert not set(RANK_VARIABLES) & set(os.environ)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "1"},
        BATCH,
        {**SRUN, "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        {**SRUN, "SLURM_STEP_ID": "4294967290"},
    ],
)
def test_slurms_number_of_tasks_starts_and_hides_no_process(environment, caplog, variables):
    environment(variables)
    assert join_group(1, 1) is None
    assert caplog.text == ""
    assert join_group(2, 1) is None
    assert "this process starts the job's 2 processes itself" in caplog.text


def test_nothing_is_said_where_nothing_was_inherited(environment, caplog):
    assert join_group(2, 1) is None
    environment({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"})  # torchrun with one process
    assert join_group(1, 1) is None
    assert caplog.text == ""
    assert "LOCAL_RANK" not in os.environ


def test_several_machines_need_a_starter(environment):
    with pytest.raises(ConfigError, match="torchrun --nnodes=2 --nproc-per-node=4"):
        join_group(4, 2)


def test_what_one_process_does_is_refused_to_several(environment):
    refuse_group("a sweep")
    environment({"LOCAL_RANK": "1"})
    refuse_group("a sweep")
    environment(TORCHRUN)
    with pytest.raises(ConfigError, match=r"one process for a sweep, but it was started 2 times \(WORLD_SIZE=2"):
        refuse_group("a sweep")
    ignore_leftovers()  # nothing was left behind
    assert os.environ["RANK"] == "1"


def test_a_child_knows_nothing_of_ranks(environment):
    environment({**TORCHRUN, **SRUN, **MPIRUN})
    assert not {*RANK_VARIABLES, *TASK_VARIABLES} & set(environment_without_rank())
    assert environment_without_rank()["SLURM_JOB_ID"] == "7"


@pytest.mark.slow
def test_a_rank_that_was_left_behind_hides_no_run(tiny_job, environment, tmp_path):
    job = tiny_job("trainer.max_epochs=1", "test=false", root=tmp_path)
    environment({"LOCAL_RANK": "1"})
    result = train(job)
    assert result.run_id
    assert "best/val/balanced_accuracy" in result.metrics


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", pytest.param("srun", marks=pytest.mark.long)])
def test_two_processes_that_a_starter_began_make_one_run(tiny_job, tmp_path, starter):
    job = tiny_job("trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=1", "test=false", root=tmp_path)
    job.project.opened()  # the processes would take seconds to make the tables of the store
    job.write(tmp_path / "job.yaml")
    port = 20000 + os.getpid() % 20000
    processes = []
    for rank in ("0", "1"):
        if starter == "torchrun":
            variables = {**TORCHRUN, "RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": str(port)}
        else:
            variables = {**SRUN, "SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_JOB_ID": str(port)}
        command = [sys.executable, "-m", "lesion_exp", "train", "job=job.yaml"]
        processes.append(
            subprocess.Popen(
                command,
                cwd=tmp_path,
                env={**environment_without_rank(), **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    store = job.project.store
    (run,) = runs_where(store, "")
    assert run.status == "FINISHED"
    assert [text.strip() for text, _ in outputs] == [run.run_id, ""]
    assert read_predictions(run, "val")["image_id"].is_unique
    assert not Path(tmp_path / "mlruns" / "live" / run.run_id).exists()


def test_modules_run_at_once_and_the_first_failure_ends_the_others(tmp_path, monkeypatch):
    (tmp_path / "waits.py").write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "me, other = map(Path, sys.argv[1:3])\n"
        "me.write_text(os.environ['OMP_NUM_THREADS'] + ' ' + os.environ['LESION_EXP_CORES'])\n"
        "while not other.exists():\n"
        "    time.sleep(0.01)\n"
        "if sys.argv[3:]:\n"
        "    sys.exit(3)\n"
        "if 'hangs' in me.name:\n"
        "    time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    a, b, hangs = (str(tmp_path / name) for name in ("a", "b", "hangs"))
    assert run_modules("waits", [(a, b), (b, a)]) == 0
    assert {int(share) for share in Path(a).read_text().split()} == {max(usable_cores() // 2, 1)}
    assert run_modules("waits", [(hangs, b), (b, hangs, "fails")]) == 3

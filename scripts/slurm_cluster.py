"""A cluster of SLURM on one machine: SLURM's own daemons and commands on the two machines of `two_nodes.py`.

`python scripts/slurm_cluster.py CASE` trains tiny networks on the cluster and prints the outcome; it needs Linux, root,
and `apt-get install slurm-wlm munge`. The cases are in `slurm_cases.py`. No service of the system is configured or
started: all files lie in a temporary folder, and the script removes what it builds, also after a failure or a signal.

The machines share the folder of the project, as a cluster does, and pretend to have two cores and 32 GB each. SLURM
gives cores and memory away, ends a job that uses more memory than it has, and does not bind processes to cores. There
is no accounting. The partition `urgent` pre-empts jobs of the partition `usual` by requeueing them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from two_nodes import ADDRESSES, NODES, TwoNodes
from two_nodes import reason_against as reason_against_nodes

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
CONFIGURATION = """\
ClusterName=lesion_exp
SlurmctldHost=node-a({a})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n.spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
DefMemPerCPU=4000
NodeName=node-a NodeAddr={a} CPUs=2 RealMemory=32000
NodeName=node-b NodeAddr={b} CPUs=2 RealMemory=32000
PartitionName=usual Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10
"""
"""The file slurm.conf. A requeued job waits for `cred_expire` seconds, by default 120, before it starts again."""
START_SECONDS = 30.0


class SlurmCluster(TwoNodes):
    """Two machines with SLURM: `node-a`, where its controller runs, too, and `node-b`.

    Args:
        folder: an empty folder; the project of both machines is `folder/project`.

    Raises:
        PermissionError: this process may not make network namespaces, or a program is missing.
        RuntimeError: SLURM does not start.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, shared=True)
        if reason := reason_against():
            raise PermissionError(reason)
        self.version = self._output("slurmctld", "-V")
        self._munged: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SlurmCluster:
        super().__enter__()
        try:
            self._start_daemons()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._munged is not None:
            self._munged.terminate()
            self._munged.wait()

    def variables(self, node: str) -> dict[str, str]:
        """See the base class; SLURM's commands find this cluster, and gloo finds a machine's card by its name."""
        shared = {name: text for name, text in super().variables(node).items() if name != "GLOO_SOCKET_IFNAME"}
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), **shared}

    def call(self, *command: str, log: str = "calls.txt") -> tuple[int, str]:
        """Runs a command on machine `a`; returns its exit code and what it wrote, which is also added to the log."""
        path = self.folder / "a" / log
        before = path.stat().st_size if path.exists() else 0
        code = self.start("a", *command, log=log).wait()
        return code, path.read_bytes()[before:].decode(errors="replace")

    def start_slurmd(self, node: str) -> None:
        """Starts SLURM's daemon on a machine."""
        self.start(node, "slurmd", "-D", "-N", f"node-{node}", log="slurmd.txt")

    def lose(self, node: str) -> int:
        """Kills every process of a machine, SLURM's daemons included; returns how many they were."""
        return self.kill(node)

    def wait_until_idle(self, seconds: float = START_SECONDS) -> None:
        """Waits until both machines can take a job.

        Raises:
            RuntimeError: they cannot within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _, text = self.call("sinfo", "--noheader", "--Node", "--partition=usual", "--format=%N %T")
            if text.split() == ["node-a", "idle", "node-b", "idle"]:
                return
            time.sleep(0.5)
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log")))
        raise RuntimeError(f"expected SLURM to have two idle machines within {seconds:g} s, got {text!r}:\n{logs}")

    def _start_daemons(self) -> None:
        munge = self.folder / "munge"
        munge.mkdir()
        subprocess.run(["mungekey", "--create", "--keyfile", munge / "key"], check=True)
        self.folder.chmod(0o755)  # SLURM's credentials are made by another user
        for path in (munge, munge / "key"):
            shutil.chown(path, "munge", "munge")
        files = [f"--{name}={munge / name.removesuffix('-file')}"
                 for name in ("socket", "key-file", "pid-file", "seed-file", "log-file")]  # fmt: skip
        self._munged = subprocess.Popen(
            ["munged", "--foreground", *files], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, user="munge", group="munge", extra_groups=[],
        )  # fmt: skip
        text = CONFIGURATION.format(folder=self.folder, **ADDRESSES)
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", encoding="utf-8")  # unused, but looked for
        (self.folder / "state").mkdir()
        deadline = time.monotonic() + START_SECONDS
        while not (munge / "socket").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.start("a", "slurmctld", "-D", log="slurmctld.txt")
        for node in NODES:
            (self.folder / f"node-{node}.spool").mkdir()
            self.start_slurmd(node)
        self.wait_until_idle()

    @staticmethod
    def _output(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def reason_against() -> str | None:
    """Why this process cannot make a cluster; None if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"expected SLURM and munge, but there is no {', '.join(missing)}; type: apt-get install slurm-wlm munge"
    return reason_against_nodes()


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    from slurm_cases import CASES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=tuple(CASES), nargs="+", help="see scripts/slurm_cases.py")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs of both machines")
    arguments = parser.parse_args(argv)
    if reason := reason_against():
        print(reason, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    results: dict[str, object] = {}
    for case in arguments.case:
        folder = Path(tempfile.mkdtemp(prefix="slurm_cluster_"))
        try:
            with SlurmCluster(folder) as cluster:
                results["slurm"] = cluster.version
                results[case] = CASES[case](cluster)
        finally:
            if arguments.keep:
                print(f"the files of the case {case} are in {folder}", file=sys.stderr)
            else:
                shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(results, indent=None if arguments.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

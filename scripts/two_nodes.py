"""Two machines on one: network namespaces joined by a virtual cable, each with its own file system and host name.

`python scripts/two_nodes.py CASE` trains a tiny network on both and prints the outcome; it needs Linux and root.

- `same`: one run on 2 machines with 1 and with 2 processes each, beside the same job on one machine.
- `killed`: every process of one machine is killed; how the other ends, and `resume` on both.
- `cable`: the cable is cut instead.
- `restarted`: torchrun starts the processes again after one of them was killed.

The script removes what it builds, also after a failure or a signal. `TwoNodes` is for experiments of your own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

NODES = ("a", "b")
ADDRESSES = {"a": "10.231.77.1", "b": "10.231.77.2"}
PORT = 29500
TINY = (
    "experiment=demo", "image_size=32", "dataset.num_lesions=60", "dataset.image_height=32", "dataset.image_width=32",
    "trainer=ddp_cpu", "trainer.precision=32-true", "loader.num_workers=0",
    "evaluation.bootstrap_draws=100", "print_config=false", "tracking.log_images=false",
)  # fmt: skip
"""A training of seconds; `trainer.devices`, `loader.batch_size` and a network are added."""
SMALL_CNN = ("backbone=small_cnn", "backbone.width=4")
ENTER = (
    'hostname "node-$0" && mount --bind "$1" "$2" && mount --bind "$3" /etc/hosts && cd "$2" && shift 3 && exec "$@"'
)
"""What a process does before it becomes the command: it takes the name and the file system of its machine."""


class TwoNodes:
    """Two machines, `a` and `b`, whose projects have the same path, `folder/project`, and nothing in common.

    Args:
        folder: an empty folder; the files of a machine lie in `folder/a` and `folder/b`.
        shared: whether the project of both machines is the same folder, as on the file system of a cluster.

    Raises:
        PermissionError: this process may not make network namespaces.
    """

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        reason = reason_against()
        if reason:
            raise PermissionError(reason)
        self.folder = folder
        self.shared = shared
        self.project = folder / "project"
        self._names = {node: f"nodes{os.getpid()}{node}" for node in NODES}
        self._links = {node: f"veth{os.getpid() % 10**7}{node}" for node in NODES}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> TwoNodes:
        self.project.mkdir(parents=True)
        hosts = "".join(f"{address} node-{node}\n" for node, address in ADDRESSES.items())
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}", encoding="utf-8")
        try:
            for node in NODES:
                (self.folder / node).mkdir()
                _ip("netns", "add", self._names[node])
            _ip("link", "add", self._links["a"], "type", "veth", "peer", "name", self._links["b"])
            for node in NODES:
                _ip("link", "set", self._links[node], "netns", self._names[node])
                inside = ("-n", self._names[node])
                _ip(*inside, "addr", "add", f"{ADDRESSES[node]}/24", "dev", self._links[node])
                _ip(*inside, "link", "set", self._links[node], "up")
                _ip(*inside, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in NODES:
            self.kill(node)
        for process in self._processes:
            process.wait()
        for node in NODES:  # the cable goes with the namespaces, and the mounts with their processes
            subprocess.run(["ip", "netns", "del", self._names[node]], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._links["a"]], check=False, capture_output=True)

    def start(
        self, node: str, *command: str, log: str = "log.txt", environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a command on a machine, in its project; what it writes is appended to `folder/NODE/LOG`."""
        own = {**os.environ, **self.variables(node), **(environment or {})}
        enter = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", ENTER, node]
        paths = [str(self.disk(node)), str(self.project), str(self.folder / "hosts")]
        with (self.folder / node / log).open("ab") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._names[node], *enter, *paths, *command],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=own,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def variables(self, node: str) -> dict[str, str]:
        """The variables that every command on a machine gets."""
        return {"GLOO_SOCKET_IFNAME": self._links[node], "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def disk(self, node: str) -> Path:
        """The folder that a machine sees as its project."""
        return self.project if self.shared else self.folder / node

    def torchrun(
        self, node: str, per_node: int, *command: str, nodes: str = "2", restarts: int = 0, log: str = "log.txt"
    ) -> subprocess.Popen[bytes]:
        """Starts torchrun with `python -m lesion_exp COMMAND` on a machine; the machines meet at machine `a`."""
        return self.start(
            node, sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", f"--nproc-per-node={per_node}",
            "--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES['a']}:{PORT}", "--rdzv-id=two-nodes",
            f"--local-addr={ADDRESSES[node]}", f"--max-restarts={restarts}", "-m", "lesion_exp", *command, log=log,
        )  # fmt: skip

    def pids(self, node: str, containing: str = "") -> list[int]:
        """The processes of a machine whose command line contains the text."""
        found = subprocess.run(["ip", "netns", "pids", self._names[node]], check=False, capture_output=True, text=True)
        pids = [int(pid) for pid in found.stdout.split()]
        return [pid for pid in pids if containing in _command_line(pid)]

    def kill(self, node: str, containing: str = "") -> int:
        """Kills the processes of a machine by SIGKILL, as a loss of power would; returns how many they were."""
        pids = self.pids(node, containing)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def cut(self) -> None:
        """Cuts the cable: packets are lost, and nobody is told."""
        _ip("-n", self._names["b"], "link", "set", self._links["b"], "down")

    def log(self, node: str, name: str = "log.txt") -> str:
        """What the processes of a machine have written."""
        return (self.folder / node / name).read_text(encoding="utf-8", errors="replace")

    @contextlib.contextmanager
    def as_seen_by(self, node: str) -> Iterator[Path]:
        """Gives the project with the files of a machine; unless it is shared, nothing may run there meanwhile."""
        if self.shared:
            yield self.project
            return
        subprocess.run(["mount", "--bind", str(self.folder / node), str(self.project)], check=True)
        try:
            yield self.project
        finally:
            subprocess.run(["umount", "--lazy", str(self.project)], check=True)  # a store may still be open


def reason_against() -> str | None:
    """Why this process cannot make two machines; None if it can."""
    if sys.platform != "linux":
        return "expected Linux, which has network namespaces"
    if os.getuid() != 0:
        return "expected root, who may make network namespaces"
    missing = [name for name in ("ip", "unshare", "mount") if shutil.which(name) is None]
    if missing:
        return f"expected the commands ip, unshare and mount, but there is no {', '.join(missing)}"
    name = f"nodes{os.getpid()}try"
    done = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
    if done.returncode:
        return f"expected to be allowed to make network namespaces, but: {done.stderr.strip()}"
    _ip("netns", "del", name)
    return None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


class Trial:
    """Trainings of the same job on two machines and on one."""

    def __init__(self, nodes: TwoNodes, per_node: int, *overrides: str) -> None:
        from lesion_exp.config.compose import compose
        from lesion_exp.config.freeze import freeze

        self.nodes, self.per_node = nodes, per_node
        size = f"loader.batch_size={8 // (2 * per_node)}"  # 8 images a step on all processes together
        given = [*TINY, size, *overrides]
        self.job = freeze(
            compose([*given, f"trainer.devices={per_node}", "trainer.num_nodes=2"], root=nodes.project)
        )  # fmt: skip
        self.alone = freeze(compose([*given, f"trainer.devices={2 * per_node}"], root=nodes.project))
        for node in NODES:
            self.job.write(nodes.disk(node) / "job.yaml")
        self.alone.write(nodes.disk("a") / "alone.yaml")

    def start(self, *command: str, per_node: int | None = None, restarts: int = 0, log: str = "log.txt"
              ) -> list[subprocess.Popen[bytes]]:  # fmt: skip
        """Starts torchrun on both machines."""
        count = self.per_node if per_node is None else per_node
        return [self.nodes.torchrun(node, count, *command, restarts=restarts, log=log) for node in NODES]

    def finish(self, processes: list[subprocess.Popen[bytes]], seconds: float) -> list[int | None]:
        """Waits until all have ended, and returns their exit codes."""
        deadline = time.monotonic() + seconds
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [process.poll() for process in processes]

    def until_checkpoint(self, processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
        """Waits until the first machine has a checkpoint of a running training."""
        deadline = time.monotonic() + seconds
        while not list(self.nodes.disk("a").glob("mlruns/live/*/last.ckpt")):
            if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
                raise RuntimeError(f"no checkpoint:\n{self.nodes.log('a')}\n{self.nodes.log('b')}")
            time.sleep(0.1)

    def train_alone(self, seconds: float) -> dict[str, object]:
        """Runs the job with all processes on the first machine, and returns the facts of its run."""
        process = self.nodes.start("a", sys.executable, "-m", "lesion_exp", "train", "job=alone.yaml", log="alone.txt")
        codes = self.finish([process], seconds)
        return {"codes": codes, **self.facts()}

    def facts(self) -> dict[str, object]:
        """What the newest run on the first machine is, and how many there are."""
        import pandas as pd

        from lesion_exp.model.checkpoint_file import read_checkpoint, state_hash
        from lesion_exp.tracking.find import find_run, runs_where
        from lesion_exp.tracking.store import open_store
        from lesion_exp.tracking.stored_run import download_artifact, read_predictions

        with self.nodes.as_seen_by("a") as root:
            store = open_store(None, root)
            run = find_run(store, "latest")
            found: dict[str, object] = {
                "runs": len(list(runs_where(store, ""))),
                "run": run.run_id,
                "status": run.status,
            }
            found["error"] = run.tags.get("error")
            if run.status == "FINISHED":
                manifest = pd.read_parquet(download_artifact(run, "split/manifest.parquet"))
                once = {
                    part: sorted(read_predictions(run, part)["image_id"])
                    == sorted(manifest.loc[manifest["split"] == part, "image_id"])
                    for part in ("val", "test")
                }
                for name in ("best", "last"):
                    state = read_checkpoint(Path(download_artifact(run, f"checkpoints/{name}.ckpt")))["state_dict"]
                    found[f"{name}_weights"] = state_hash(state)
                    found[f"_{name}"] = state
                metrics = {key: value for key, value in run.results().items() if key.startswith(("test/", "best/"))}
                found |= {"each_image_once": once, "_metrics": metrics}
            return found


def difference(first: dict[str, object], second: dict[str, object], name: str = "_last") -> float:
    """The largest difference between two weights of two runs."""
    states = first[name], second[name]
    return max(float((states[0][key].double() - states[1][key].double()).abs().max()) for key in states[0])  # type: ignore[index]


def shown(facts: dict[str, object]) -> dict[str, object]:
    """The facts without weights and metrics."""
    return {key: value for key, value in facts.items() if not key.startswith("_")}


def same(nodes: TwoNodes, per_node: int, seconds: float) -> dict[str, object]:
    """One run on two machines beside the same job on one."""
    trial = Trial(nodes, per_node, *SMALL_CNN, "trainer.max_epochs=3")
    codes = trial.finish(trial.start("train", "job=job.yaml"), seconds)
    together = {"codes": codes, **trial.facts()}
    alone = trial.train_alone(seconds)
    return {
        "two_machines": shown(together),
        "one_machine": shown(alone),
        "stores": {node: len(list((nodes.folder / node).glob("data_cache/store_*/meta.json"))) for node in NODES},
        "mlflow": {node: (nodes.folder / node / "mlruns" / "mlflow.db").exists() for node in NODES},
        "largest_difference": difference(together, alone),
        "metrics_equal": together["_metrics"] == alone["_metrics"],
    }


LONGER = ("trainer.max_epochs=6", "trainer.checkpoint_every_steps=5")


def killed(nodes: TwoNodes, per_node: int, seconds: float) -> dict[str, object]:
    """Returns how a run ends when a machine is lost, and how `resume` continues it."""
    trial = Trial(nodes, per_node, *SMALL_CNN, *LONGER)
    processes = trial.start("train", "job=job.yaml")
    trial.until_checkpoint(processes, seconds)
    began = time.monotonic()
    nodes.kill("b")
    while nodes.pids("a", "lesion_exp train") and time.monotonic() - began < seconds:
        time.sleep(0.1)
    ended = time.monotonic() - began
    codes = trial.finish(processes[:1], 30)
    nodes.kill("a")
    state = shown(trial.facts())
    resumed = {
        "codes": trial.finish(trial.start("resume", "run=latest", log="resumed.txt"), seconds),
        **trial.facts(),
    }
    alone = trial.train_alone(seconds)
    return {
        "seconds_until_the_others_ended": round(ended, 1),
        "codes": codes,
        "said": said_of_loss(nodes, "a"),
        "then": state,
        "resumed": shown(resumed),
        "largest_difference_to_a_run_that_never_stopped": difference(resumed, alone) if "_last" in resumed else None,
    }


def cable(nodes: TwoNodes, per_node: int, seconds: float) -> dict[str, object]:
    """How long the processes of both machines wait for each other when the cable is cut, and what they say."""
    trial = Trial(nodes, per_node, *SMALL_CNN, "trainer.max_epochs=300", "trainer.checkpoint_every_steps=5")
    processes = trial.start("train", "job=job.yaml")
    trial.until_checkpoint(processes, seconds)
    nodes.cut()
    began, ended = time.monotonic(), dict[str, float]()
    while len(ended) < len(NODES) and time.monotonic() - began < seconds:
        for node in NODES:
            if node not in ended and not nodes.pids(node, "-u -m lesion_exp train"):
                ended[node] = round(time.monotonic() - began, 1)
        time.sleep(0.1)
    return {"seconds_until_they_ended": ended, "said": {node: said_of_loss(nodes, node) for node in NODES}}


def said_of_loss(nodes: TwoNodes, node: str) -> list[str]:
    """What the processes of a machine have said of others, and of going on."""
    return [line for line in nodes.log(node).splitlines() if re.search(r"rank \d+ \(process|resume run=", line)]


def restarted(nodes: TwoNodes, per_node: int, seconds: float) -> dict[str, object]:
    """torchrun starts the processes again when one of them was killed."""
    trial = Trial(nodes, per_node, *SMALL_CNN, *LONGER)
    processes = trial.start("train", "job=job.yaml", restarts=2)
    trial.until_checkpoint(processes, seconds)
    nodes.kill("b", "-u -m lesion_exp train")  # torchrun itself stays
    codes = trial.finish(processes, seconds)
    said = [line for line in nodes.log("a").splitlines() if "goes on" in line or "rank 1 (" in line]
    together = trial.facts()
    alone = trial.train_alone(seconds)
    same_weights = "_last" in together and "_last" in alone
    return {
        "codes": codes,
        "said": said,
        "run": shown(together),
        "largest_difference_to_a_run_that_never_stopped": difference(together, alone) if same_weights else None,
    }


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("same", "killed", "cable", "restarted"))
    parser.add_argument("--processes", type=int, default=1, help="processes on each machine")
    parser.add_argument("--seconds", type=float, default=600.0, help="longest time of a training")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args(argv)
    reason = reason_against()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="two_nodes_") as folder, TwoNodes(Path(folder)) as nodes:
        match arguments.case:
            case "same":
                result = same(nodes, arguments.processes, arguments.seconds)
            case "restarted":
                result = restarted(nodes, arguments.processes, arguments.seconds)
            case "killed":
                result = killed(nodes, arguments.processes, arguments.seconds)
            case _:
                result = cable(nodes, arguments.processes, arguments.seconds)
    print(json.dumps(result, indent=None if arguments.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

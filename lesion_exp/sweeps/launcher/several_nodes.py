"""A cell on several nodes: the task of each node starts the processes of this node by torchrun.

`python -m lesion_exp.sweeps.launcher.several_nodes PARENT WORDS` is torchrun, but it ends with the process PARENT that
started it, and its processes with it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lesion_exp.errors import ConfigError
from lesion_exp.model.precision import resolve_devices
from lesion_exp.process.signals import end_with_parent
from lesion_exp.sweeps.cell import Cell


def check_nodes(cell: Cell, nodes: int) -> None:
    """Checks that the job of `cell` asks for as many machines as the launcher gives it, which is `nodes`.

    Raises:
        ConfigError: it asks for another number.
    """
    wanted = int(cell.job().config["trainer"]["num_nodes"])
    if wanted != nodes:
        raise ConfigError(
            f"expected trainer.num_nodes={nodes} with launcher.nodes={nodes}, got {wanted} in cell {cell.number}; set "
            f"both to the number of machines of one run (with trainer=ddp)"
        )


def processes_per_node(folder: Path) -> int:
    """Returns the number of devices that the job of the cell in `folder` uses here, each of which has a process."""
    trainer = Cell(folder).job().config["trainer"]
    devices = resolve_devices(trainer["devices"], trainer["accelerator"])
    return len(devices) if isinstance(devices, list) else devices


def starter_words(nodes: int, node: int, per_node: int, address: str, port: int) -> tuple[str, ...]:
    """Returns the words of Python by which this process, the task of a node, starts the processes of a cell.

    Args:
        nodes: number of nodes.
        node: the number of this node, from 0.
        per_node: number of processes on each node.
        address: of node 0, where all processes meet.
        port: there.
    """
    return (
        "-m", "lesion_exp.sweeps.launcher.several_nodes", str(os.getpid()), f"--nnodes={nodes}", f"--node-rank={node}",
        f"--nproc-per-node={per_node}", f"--master-addr={address}", f"--master-port={port}",
    )  # fmt: skip


def main() -> None:
    """Runs torchrun with the words that follow the id of the parent."""
    end_with_parent(int(sys.argv[1]))
    from torch.distributed.run import main as torchrun

    torchrun(sys.argv[2:])


if __name__ == "__main__":
    main()

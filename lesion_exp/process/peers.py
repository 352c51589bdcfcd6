"""The processes of a run that torchrun or srun started: how they meet, and what they agree on.

They meet in the store of torch.distributed, at the address that the starter gives, before they read any data. Machines
may have file systems of their own: the first process decides for all and alone writes to MLflow, and the first of each
machine does there what is done once a machine.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.process.distributed_environment import RankGroup, inherited_group
from lesion_exp.process.peer_heartbeats import CLOSING_SECONDS, DOUBTED_SECONDS, POLL_SECONDS, PeerHeartbeats

MEETING_SECONDS: Final = 600.0
"""How long a process waits for the others to come."""


class Peers:
    """The processes of a run, seen from one of them.

    Args:
        store: a store of torch.distributed that all of them reach.
        group: the group, and the rank of this process.
        per_node: number of processes on each machine.
        address: where the store is, for messages.
    """

    def __init__(self, store: Any, group: RankGroup, per_node: int, address: str) -> None:
        self.rank, self.size = group.rank, group.world_size
        self.per_node = per_node
        self.address = address
        self._common = store
        self._store = store
        self._names: list[str] = [f"rank {rank}" for rank in range(self.size)]
        self.heartbeats = PeerHeartbeats(store, self.rank, self._names, address)

    @property
    def node(self) -> int:
        """The number of this machine."""
        return self.rank // self.per_node

    @property
    def is_first_here(self) -> bool:
        """Whether this process does what is done once a machine."""
        return self.rank % self.per_node == 0

    # what they agree on

    def tell(self, name: str, make: Callable[[], str]) -> str:
        """Returns what `make` gives the first process, on all of them."""
        if self.rank == 0:
            self._store.set(f"told/{name}", make())
        return self._text(f"told/{name}")

    def tell_here(self, name: str, make: Callable[[], str]) -> str:
        """Returns what `make` gives the first process of this machine, on all processes of the machine."""
        key = f"here/{self.node}/{name}"
        if self.is_first_here:
            self._store.set(key, make())
        return self._text(key)

    def wait_here(self, name: str) -> None:
        """Returns on the first process of a machine when the others of the machine have called it; there at once."""
        others = range(self.rank + 1, self.rank + self.per_node) if self.is_first_here else ()
        if not self.is_first_here:
            self._store.set(f"reached/{name}/{self.rank}", "")
        self.heartbeats.wait([f"reached/{name}/{rank}" for rank in others])

    def check_alike(self, what: str, value: dict[str, str], remedy: str) -> None:
        """Checks that all processes have the same `value`.

        Raises:
            ConfigError: one has another value; the message names both, and the machine.
        """
        self._store.set(f"value/{what}/{self.rank}", json.dumps(value))
        first = json.loads(self._text(f"value/{what}/0"))
        for rank in range(self.size):
            other = json.loads(self._text(f"value/{what}/{rank}"))
            for key in sorted(first.keys() | other.keys()):
                if first.get(key) != other.get(key):
                    raise ConfigError(
                        f"expected the same {what} in all processes of the run, got {key} {first.get(key)} in "
                        f"{self._names[0]} and {other.get(key)} in {self._names[rank]}; {remedy}"
                    )

    def remember(self, name: str, text: str) -> None:
        """Keeps `text` for the processes that the same torchrun starts later in the place of these."""
        self._common.set(f"lesion_exp/kept/{name}", text)

    def remembered(self, name: str) -> str | None:
        """What processes that the same torchrun started earlier have kept."""
        return kept_in(self._common, name)

    def _text(self, key: str) -> str:
        self.heartbeats.wait([key])
        found: bytes = self._store.get(key)
        return found.decode()

    # meeting

    def meet(self, seconds: float | None = None) -> None:
        """Returns when all processes are here, at most after `seconds`, by default MEETING_SECONDS.

        Processes that torchrun starts again find the store as the earlier ones left it. So each brings a new word, and
        the first process gives all that it sees a name, under which everything else is kept.

        Raises:
            ConfigError: some did not come.
        """
        from torch.distributed import distributed_c10d

        seconds = MEETING_SECONDS if seconds is None else seconds
        word, until = secrets.token_hex(8), time.monotonic() + seconds
        me = json.dumps([word, socket.gethostname(), os.getpid()])
        self._common.set(f"lesion_exp/here/{self.rank}", me)
        seen: list[str] = []
        name = ""
        while True:
            if self.rank == 0:
                now = self._all_here()
                if now and now != seen:
                    seen, name = now, secrets.token_hex(8)
                    self._common.set("lesion_exp/round", json.dumps([name, seen]))
            if self._common.check(["lesion_exp/round"]):
                name, seen = json.loads(self._common.get("lesion_exp/round"))
                if len(seen) == self.size and seen[self.rank] == me:
                    self._common.set(f"lesion_exp/{name}/came/{self.rank}", "")
                    if self._common.check([f"lesion_exp/{name}/came/{rank}" for rank in range(self.size)]):
                        break
            if time.monotonic() > until:
                raise ConfigError(self._missing(seconds))
            time.sleep(POLL_SECONDS)
        self._store = distributed_c10d.PrefixStore(f"lesion_exp/{name}", self._common)
        found = [json.loads(text) for text in seen]
        self._names = [f"rank {rank} (process {pid} on {host})" for rank, (_, host, pid) in enumerate(found)]
        self.heartbeats = PeerHeartbeats(self._store, self.rank, self._names, self.address)

    def _all_here(self) -> list[str]:
        keys = [f"lesion_exp/here/{rank}" for rank in range(self.size)]
        return [text.decode() for text in self._common.multi_get(keys)] if self._common.check(keys) else []

    def _missing(self, seconds: float) -> str:
        absent = [
            str(rank) for rank in range(self.size) if not self._common.check([f"lesion_exp/here/{rank}"])
        ]  # fmt: skip
        return (
            f"expected {self.size} processes to meet at {self.address} within {seconds:.0f} s, but rank "
            f"{', '.join(absent) or 'of an earlier start'} did not come; look at what the starter says on its machine, "
            f"and whether that reaches this address"
        )

    def connect(self, backend: str) -> None:
        """Makes the process group of torch.distributed, which Lightning then uses.

        torchrun keeps its store when it starts processes again, with the addresses of the earlier ones. Lightning would
        meet these there, so the group is made below the name of this meeting.
        """
        import torch.distributed as dist
        from torch.distributed import distributed_c10d

        group = distributed_c10d.PrefixStore("group", self._store)
        dist.init_process_group(backend, store=group, rank=self.rank, world_size=self.size)
        if backend == "nccl":  # which warns of a group that is left at the end
            atexit.register(dist.destroy_process_group)


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Tells the processes that a starter began beside this first one if it ends within the block before they have met.

    They would wait for it, since it alone reads what there is to do.
    """
    try:
        yield
    except BaseException as error:
        group = inherited_group(os.environ)
        if group is not None and group.world_size > 1 and group.rank == 0 and not _HAVE_MET:
            seconds = MEETING_SECONDS if isinstance(error, Exception) else CLOSING_SECONDS  # the user wants it to end
            with contextlib.suppress(BaseException), met(group, seconds):
                raise error
        raise


RUN: Final = "run"
"""What the first process keeps for those that torchrun starts in the place of lost ones: the id of the run."""


def begun_before() -> str | None:
    """The id of the run that processes began which the same torchrun started before this one; None without such."""
    group = inherited_group(os.environ)
    if group is None or group.address is None or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    with contextlib.suppress(RuntimeError, OSError):  # the processes cannot meet then, and say so
        store = TCPStore(
            group.address, int(group.port or 0), is_master=False, wait_for_workers=False,
            timeout=timedelta(seconds=DOUBTED_SECONDS),
        )  # fmt: skip
        return kept_in(store, RUN)
    return None


def kept_in(store: Any, name: str) -> str | None:
    """What `Peers.remember` has kept in `store`."""
    key = f"lesion_exp/kept/{name}"
    if not store.check([key]):
        return None
    found: bytes = store.get(key)
    return found.decode()


_HAVE_MET: Final[list[str]] = []
"""The places at which this process has met others."""


@contextlib.contextmanager
def met(group: RankGroup, seconds: float | None = None) -> Iterator[Peers]:
    """Enters `group`, meets its other processes, watches them within the block, and says so if one is lost.

    It waits for them `seconds`, by default MEETING_SECONDS.

    Raises:
        ConfigError: they did not come together, or the machines have different numbers of processes.
        PeerLost: one of them was lost.
    """
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    per_node, _ = group.check_even()
    group.enter(per_node)
    place = f"{group.address}:{group.port}"
    wait = timedelta(seconds=MEETING_SECONDS if seconds is None else seconds)
    try:
        iterator = rendezvous("env://", group.rank, group.world_size, timeout=wait)
        store, _, _ = next(iterator)
    except (dist.DistError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"expected to meet the other processes of {group.text} at {place}, but {error}; look whether this machine "
            f"reaches that address, and whether torchrun or srun runs on the first machine"
        ) from error
    peers = Peers(store, group, per_node, place)
    peers.meet(seconds)
    _HAVE_MET.append(place)
    peers.heartbeats.start()
    try:
        with peers.heartbeats.told_of_loss():
            yield peers
    finally:
        peers.heartbeats.leave()

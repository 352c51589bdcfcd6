"""The processes of a run that torchrun or srun started: what they agree on, and heartbeats by which a loss shows.

They meet in the store of torch.distributed, at the address that the starter gives, before they read any data. Machines
may have file systems of their own: the first process decides for all and alone writes to MLflow, and the first of each
machine does there what is done once a machine.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

from lesion_exp.errors import ConfigError, UserError
from lesion_exp.process.distributed_environment import RankGroup, inherited_group

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 2.0
"""Interval between two heartbeats."""
SILENT_SECONDS: Final = 30.0
"""A process that has given no heartbeat for so long is lost."""
DOUBTED_SECONDS: Final = 10.0
"""The same, once a connection to one of the processes has broken."""
MEETING_SECONDS: Final = 600.0
"""How long a process waits for the others to come."""
CLOSING_SECONDS: Final = 8.0
"""How long a process has to leave what it does when another one is lost, before it is asked to, and then is ended."""
_POLL_SECONDS: Final = 0.1
_DONE: Final = "done"
_BROKEN: Final = re.compile(
    r"connection (closed|reset|refused)|broken pipe|\b(gloo|nccl|socket|c10d|process group)\b", re.IGNORECASE
)
"""What torch says where a process cannot reach another one; a loader that is slow has timed out as well."""


class PeerLost(SystemExit):
    """Another process of the run is lost: this one cannot go on, and its run is marked KILLED."""

    def __init__(self, text: str) -> None:
        super().__init__(1)
        self.add_note(text)


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
        self._verdict: str | None = None
        self._found = threading.Event()
        self._left = threading.Event()
        """Whether this process gives no more heartbeats."""
        self._is_done = False
        """Whether this process has done its part."""
        self._heart: threading.Thread | None = None
        self._closing = threading.Event()
        """Whether the main thread is leaving what it does."""
        self._doubt = threading.Event()
        self._has_told = False
        """Whether the others know of an error of this process."""
        self._last_round = time.monotonic()

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
        self._wait([f"reached/{name}/{rank}" for rank in others])

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
        self._wait([key])
        found: bytes = self._store.get(key)
        return found.decode()

    def _wait(self, keys: list[str]) -> None:
        while keys and not self._store.check(keys):
            if self._found.wait(_POLL_SECONDS):
                raise PeerLost(str(self._verdict))

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
            time.sleep(_POLL_SECONDS)
        self._store = distributed_c10d.PrefixStore(f"lesion_exp/{name}", self._common)
        found = [json.loads(text) for text in seen]
        self._names = [f"rank {rank} (process {pid} on {host})" for rank, (_, host, pid) in enumerate(found)]

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

    # heartbeats

    def watch(self) -> None:
        """Begins to give heartbeats and to look for those of the others."""
        self._store.set(f"beat/{self.rank}", "0")
        self._wait([f"beat/{rank}" for rank in range(self.size)])
        self._last_round = time.monotonic()
        self._heart = threading.Thread(target=self._give_heartbeats, name="heartbeats", daemon=True)
        self._heart.start()
        threading.Thread(target=self._judge, name="judge", daemon=True).start()

    def _give_heartbeats(self) -> None:
        watched = [rank for rank in range(self.size) if rank != self.rank] if self.rank == 0 else [0]
        seen = {rank: ("", time.monotonic()) for rank in watched}
        count = 0
        while not self._left.is_set() and self._verdict is None:
            count += 1
            try:
                self._store.set(f"beat/{self.rank}", _DONE if self._is_done else str(count))
                if not self._has_told and self._store.check(["failed"]):
                    return self._decide(self._store.get("failed").decode())
                beats = self._store.multi_get([f"beat/{rank}" for rank in watched])
            except Exception:
                if not self._left.is_set():
                    self._decide(f"the connection to {self._place_of_store()} is broken")
                return None
            now = self._last_round = time.monotonic()
            for rank, beat in zip(watched, beats, strict=True):
                if beat.decode() != seen[rank][0]:
                    seen[rank] = (beat.decode(), now)
                elif beat.decode() != _DONE and now - seen[rank][1] > self._patience():
                    return self._announce(rank, now - seen[rank][1])
            self._left.wait(HEARTBEAT_SECONDS)
        return None

    def _place_of_store(self) -> str:
        """Where the heartbeats are kept, in words: the first process does not look for itself there."""
        return f"{self._names[0]} at {self.address}" if self.rank else f"the store at {self.address}"

    def _announce(self, rank: int, seconds: float) -> None:
        text = f"{self._names[rank]} has given no heartbeat for {seconds:.0f} s"
        with contextlib.suppress(Exception):
            self._store.set("failed", text)
        self._decide(text)

    def _patience(self) -> float:
        return DOUBTED_SECONDS if self._doubt.is_set() else SILENT_SECONDS

    def _decide(self, text: str) -> None:
        self._verdict = (
            f"{text}, and the run cannot go on without it; start the processes again, on as many machines as are left, "
            f"with resume run=RUN in place of train"
        )
        self._found.set()

    def _judge(self) -> None:
        """Ends this process if another one is lost, and this one waits for it without end."""
        while not self._found.wait(1.0):
            if self._left.is_set():
                return
            if time.monotonic() - self._last_round > self._patience():  # the store does not even refuse to answer
                self._decide(f"{self._place_of_store()} does not answer")
        log.error("%s", self._verdict)
        if self._closing.wait(CLOSING_SECONDS):
            return
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._closing.wait(CLOSING_SECONDS):  # the main thread is in native code, which waits without end
            os._exit(1)

    @contextlib.contextmanager
    def told_of_loss(self) -> Iterator[None]:
        """Raises PeerLost in the place of an error within the block that comes from the loss of another process.

        An error of this process's own is told to the others, once where such blocks lie in each other.
        """
        try:
            yield
        except PeerLost:
            self._closing.set()
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            self._closing.set()
            if self._verdict is not None:
                raise PeerLost(self._verdict) from error
            self._tell_of(error)
            raise
        except Exception as error:
            if self._has_told:
                raise
            if self._verdict is None and _is_of_connection(error):
                self._doubt.set()
                self._found.wait(DOUBTED_SECONDS + 3 * HEARTBEAT_SECONDS)
            self._closing.set()
            if self._verdict is None:
                self._tell_of(error)
                raise
            raise PeerLost(self._verdict) from error

    def _tell_of(self, error: BaseException) -> None:
        self._has_told = True
        with contextlib.suppress(Exception):
            text = f"{self._names[self.rank]} was ended by {type(error).__name__}: {error}"
            self._store.compare_set("failed", "", text[:2000])

    def leave(self) -> None:
        """Stops the heartbeats; the first process leaves last, since others may ask what it keeps.

        The thread of the heartbeats has ended before a process says that it is done, or says so itself: otherwise it
        could overwrite that with one more heartbeat, after which none would come.
        """
        self._is_done = True
        if self.rank:
            self._left.set()
            if self._heart is not None:
                self._heart.join(CLOSING_SECONDS)
        with contextlib.suppress(Exception):
            self._store.set(f"beat/{self.rank}", _DONE)
            until = time.monotonic() + CLOSING_SECONDS
            keys = [f"beat/{rank}" for rank in range(1, self.size)]
            while self.rank == 0 and self._verdict is None and time.monotonic() < until:
                if all(beat.decode() == _DONE for beat in self._store.multi_get(keys)):
                    break
                time.sleep(_POLL_SECONDS)
        self._closing.set()
        self._left.set()


def _is_of_connection(error: Exception) -> bool:
    """Whether `error` may come from the loss of another process."""
    from torch.distributed import DistError

    return not isinstance(error, UserError) and (isinstance(error, DistError) or bool(_BROKEN.search(str(error))))


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
            with contextlib.suppress(BaseException):
                per_node = group.check_even()
                group.enter(per_node)
                with met(group, per_node, seconds):
                    raise error
        raise


RUN: Final = "run"
"""What the first process keeps for those that torchrun starts in the place of lost ones: the id of the run."""


def begun_before() -> str | None:
    """The id of the run that processes began which the same torchrun started before this one; None without such."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    group = inherited_group(os.environ)
    if group is None or group.address is None or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
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
def met(group: RankGroup, per_node: int, seconds: float | None = None) -> Iterator[Peers]:
    """Meets the other processes of `group`, watches them within the block, and says so if one is lost.

    It waits for them `seconds`, by default MEETING_SECONDS.

    Raises:
        ConfigError: they did not come together.
        PeerLost: one of them was lost.
    """
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

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
    peers.watch()
    try:
        with peers.told_of_loss():
            yield peers
    finally:
        peers.leave()

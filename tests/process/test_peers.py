"""The processes of a run, as threads that meet in one store."""

import threading
import time

import pytest

from lesion_exp.command.actions import train
from lesion_exp.command.arguments import Arguments
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.process import peer_heartbeats
from lesion_exp.process import peers as module
from lesion_exp.process.distributed_environment import RANK_VARIABLES, TASK_VARIABLES, RankGroup
from lesion_exp.process.peer_heartbeats import PeerLost
from lesion_exp.process.peers import Peers

TORCHRUN = {
    "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NNODES": "1",
}  # fmt: skip
"""The first of two tasks that srun started on one machine."""


@pytest.fixture
def store():
    from torch.distributed import TCPStore

    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def make(store, rank, size=2, per_node=1):
    from torch.distributed import TCPStore

    client = TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False)
    return Peers(client, RankGroup("", size, rank, rank % per_node, "127.0.0.1", store.port), per_node, "here")


def together(works):
    """Calls each function in a thread of its own and returns what they return or raise."""
    results = [None] * len(works)

    def call(place, work):
        try:
            results[place] = work()
        except BaseException as error:
            results[place] = error

    threads = [threading.Thread(target=call, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    return results


def met(store, size=2, per_node=1):
    found = [make(store, rank, size, per_node) for rank in range(size)]
    together([peer.meet for peer in found])
    return found


def test_the_first_process_decides_and_the_first_of_each_machine_works(store):
    found = met(store, 4, 2)
    made = []

    def work(peer):
        def here():
            made.append(peer.rank)
            return f"made by {peer.rank}"

        told = peer.tell("choice", lambda: f"by {peer.rank}"), peer.tell_here("store", here)
        peer.wait_here("store")
        return told

    assert together([lambda peer=peer: work(peer) for peer in found]) == [
        ("by 0", "made by 0"), ("by 0", "made by 0"), ("by 0", "made by 2"), ("by 0", "made by 2"),
    ]  # fmt: skip
    assert sorted(made) == [0, 2]


def test_what_differs_is_refused_in_every_process_and_names_the_machine(store):
    found = met(store)
    values = ({"split_hash": "1"}, {"split_hash": "2"})
    works = [
        lambda peer=peer, value=value: peer.check_alike("data", value, "copy it")
        for peer, value in zip(found, values, strict=True)
    ]
    for error in together(works):
        assert isinstance(error, ConfigError)
        assert "split_hash 1 in rank 0 (process" in str(error)
        assert "and 2 in rank 1 (process" in str(error)
        assert "copy it" in str(error)


def test_processes_that_are_started_again_do_not_hear_the_earlier_ones(store):
    before = met(store)
    before[0].remember("run", "abc")
    assert together([lambda peer=peer: peer.tell("choice", lambda: "old") for peer in before]) == ["old", "old"]
    again = met(store)
    assert again[1].remembered("run") == "abc"
    assert together([lambda peer=peer: peer.tell("choice", lambda: "new") for peer in again]) == ["new", "new"]
    alone = met(store, size=1)[0]
    assert alone.remembered("run") == "abc"
    assert alone.remembered("other") is None


def test_a_process_that_does_not_come_is_named(store, monkeypatch):
    monkeypatch.setattr(module, "MEETING_SECONDS", 0.5)
    with pytest.raises(ConfigError, match=r"expected 3 processes to meet at here .* but rank 1, 2 did not come"):
        make(store, 0, 3).meet()


@pytest.fixture
def quick(monkeypatch):
    """Heartbeats are given and missed within seconds; how processes would be ended is noted in a list."""
    monkeypatch.setattr(peer_heartbeats, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(peer_heartbeats, "SILENT_SECONDS", 3.0)
    monkeypatch.setattr(peer_heartbeats, "DOUBTED_SECONDS", 1.5)
    monkeypatch.setattr(peer_heartbeats, "CLOSING_SECONDS", 0.2)
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.2)
    ended = []
    monkeypatch.setattr(peer_heartbeats.os, "kill", lambda *_: ended.append("asked"))
    monkeypatch.setattr(peer_heartbeats.os, "_exit", lambda *_: ended.append("ended"))
    return ended


def test_a_process_that_falls_silent_is_named_by_all_others(store, quick, caplog):
    found = met(store, 3)
    together([peer.heartbeats.start for peer in found])
    found[1].heartbeats._left.set()  # it gives no more heartbeats, and has not said that it is done

    def waits(peer):
        with peer.heartbeats.told_of_loss():
            peer.heartbeats.wait(["never"])

    for error in together([lambda peer=peer: waits(peer) for peer in (found[0], found[2])]):
        assert isinstance(error, PeerLost)
        (note,) = error.__notes__
        assert note.startswith("rank 1 (process")
        assert "has given no heartbeat for" in note
        assert "resume run=RUN" in note
    time.sleep(1.5)
    assert quick == []  # they end by themselves
    for peer in found:
        peer.heartbeats._left.set()


def test_a_process_that_waits_in_native_code_is_ended(store, quick):
    found = met(store)
    together([peer.heartbeats.start for peer in found])
    found[1].heartbeats._left.set()
    assert found[0].heartbeats._found.wait(10)
    time.sleep(2.0)
    assert quick == ["asked", "ended"]
    found[0].heartbeats._left.set()


def test_an_error_of_one_process_is_what_the_others_say(store, quick):
    found = met(store)
    together([peer.heartbeats.start for peer in found])

    def fails():
        with found[1].heartbeats.told_of_loss():
            raise ValueError("the disk is full")

    def suffers():
        with found[0].heartbeats.told_of_loss():
            time.sleep(0.3)
            raise RuntimeError("Connection closed by peer [10.0.0.2]:1234")

    own, other = together([fails, suffers])
    assert isinstance(own, ValueError)
    assert isinstance(other, PeerLost)
    assert "rank 1 (process" in other.__notes__[0]
    assert "ended by ValueError: the disk is full" in other.__notes__[0]
    for peer in found:
        peer.heartbeats._left.set()


def test_those_that_are_done_are_not_missed(store, quick):
    found = met(store)
    together([peer.heartbeats.start for peer in found])
    found[1].heartbeats.leave()
    time.sleep(3.5)
    assert found[0].heartbeats._verdict is None
    found[0].heartbeats.leave()


def test_the_last_word_of_a_process_that_is_done_stays(store, quick, monkeypatch):
    monkeypatch.setattr(peer_heartbeats, "CLOSING_SECONDS", 3.0)
    found = met(store, 3)
    together([peer.heartbeats.start for peer in found])
    slow, ready = threading.Event(), threading.Event()
    original = found[1].heartbeats._store

    class Slow:
        """A store that writes a heartbeat late: the process says meanwhile that it is done."""

        def set(self, key, text):
            if threading.current_thread() is found[1].heartbeats._heart:
                ready.set()
                slow.wait(5)
            original.set(key, text)

        def __getattr__(self, name):
            return getattr(original, name)

    found[1].heartbeats._store = Slow()
    assert ready.wait(5)
    leaving = threading.Thread(target=found[1].heartbeats.leave)
    leaving.start()
    time.sleep(0.2)
    slow.set()
    leaving.join(5)
    assert original.get("beat/1") == b"done"
    found[2].heartbeats.leave()
    found[0].heartbeats.leave()
    time.sleep(0.3)
    assert original.get("beat/0") == b"done"


def test_an_error_is_told_once_where_blocks_lie_in_each_other(store, quick):
    found = met(store)
    together([peer.heartbeats.start for peer in found])
    begin = time.monotonic()
    with (
        pytest.raises(RuntimeError, match="broken pipe"),
        found[0].heartbeats.told_of_loss(),
        found[0].heartbeats.told_of_loss(),
    ):
        raise RuntimeError("broken pipe of a loader")
    assert time.monotonic() - begin < 2 * 1.8  # it has waited for a verdict once: 1.5 s and three heartbeats
    for peer in found:
        peer.heartbeats._left.set()


@pytest.mark.parametrize(
    ("text", "may_be"),
    [
        ("Connection closed by peer [10.0.0.2]:1234", True),
        ("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete", True),
        ("NCCL error in: ProcessGroupNCCL.cpp", True),
        ("The client socket has failed to connect", True),
        ("DataLoader timed out after 5 seconds", False),
        ("the images are not distributed evenly", False),
    ],
)
def test_errors_of_a_connection_are_told_from_others(text, may_be):
    assert peer_heartbeats._is_of_connection(RuntimeError(text)) == may_be
    assert not peer_heartbeats._is_of_connection(ConfigError(text))


def test_the_first_process_does_not_name_itself_as_the_one_that_is_away(store):
    first, second = met(store)
    assert first.heartbeats._place_of_store() == "the store at here"
    assert second.heartbeats._place_of_store().startswith("rank 0 (process")


@pytest.fixture
def unranked(monkeypatch):
    """No process has begun this one; what a test sets and the code changes is undone."""
    for name in (*RANK_VARIABLES, *TASK_VARIABLES):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def second_of_srun(store, quick, unranked):
    """This process is the first of two tasks of srun; the function waits for what the second, a thread, was told."""
    unranked.setenv("MASTER_PORT", str(store.port + 1))
    for name, text in SRUN.items():
        unranked.setenv(name, text)
    unranked.setattr(module, "_HAVE_MET", [])
    told = []

    def follows():
        from torch.distributed import TCPStore

        time.sleep(0.5)
        client = TCPStore("127.0.0.1", store.port + 1, world_size=2, is_master=False)
        second = Peers(client, RankGroup("", 2, 1, 1, "127.0.0.1", store.port + 1), 2, "here")
        second.meet()
        second.heartbeats.start()
        try:
            with second.heartbeats.told_of_loss():
                second.tell("job", str)
        except PeerLost as error:
            told.extend(error.__notes__)
        second.heartbeats.leave()

    def awaited():
        other.join(10)
        return told[0]

    other = threading.Thread(target=follows, daemon=True)
    other.start()
    return awaited


def test_a_first_process_that_ends_early_does_not_let_the_others_wait(second_of_srun):
    """Under srun nothing but `RankGroup.enter` sets the variables of the meeting."""
    with pytest.raises(ConfigError, match="no such run"), module.leading():
        raise ConfigError("no such run")
    assert "was ended by ConfigError: no such run" in second_of_srun()


def test_a_training_whose_data_lack_their_files_does_not_let_the_others_wait(second_of_srun, tmp_path):
    """The first process alone reads them before the processes meet."""
    words = ["dataset=ham10000", f"dataset.root={tmp_path}", "trainer=ddp_cpu", "trainer.devices=2"]
    arguments = Arguments([*words, f"paths.root={tmp_path}", "print_config=false"], from_python=True)
    with pytest.raises(DataError, match="HAM10000_metadata"):
        train(arguments)
    assert "was ended by DataError: expected" in second_of_srun()


def test_a_user_who_ends_the_first_process_does_not_wait_for_the_others(store, quick, unranked):
    unranked.setenv("MASTER_PORT", str(store.port + 1))
    for name, text in SRUN.items():
        unranked.setenv(name, text)
    unranked.setattr(module, "_HAVE_MET", [])
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), module.leading():
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 30


def test_processes_that_torchrun_starts_again_know_the_run(store, unranked):
    for name, text in {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": str(store.port)}.items():
        unranked.setenv(name, text)
    assert module.begun_before() is None  # torchrun keeps no store
    unranked.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert module.begun_before() is None
    met(store)[0].remember(module.RUN, "abc")
    assert module.begun_before() == "abc"


def test_an_error_that_has_nothing_to_do_with_the_others_stays_what_it_is(store, quick):
    found = met(store)
    together([peer.heartbeats.start for peer in found])
    with pytest.raises(RuntimeError, match="broken pipe"), found[0].heartbeats.told_of_loss():
        raise RuntimeError("broken pipe of a loader")
    for peer in found:
        peer.heartbeats._left.set()

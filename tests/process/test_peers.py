"""The processes of a run, as threads that meet in one store."""

import threading
import time

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.process import peers as module
from lesion_exp.process.distributed_environment import RankGroup
from lesion_exp.process.peers import PeerLost, Peers


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
    """Signs of life are given and missed within seconds; how processes would be ended is noted in a list."""
    monkeypatch.setattr(module, "SIGN_SECONDS", 0.1)
    monkeypatch.setattr(module, "SILENT_SECONDS", 3.0)
    monkeypatch.setattr(module, "DOUBTED_SECONDS", 1.5)
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.2)
    ended = []
    monkeypatch.setattr(module.os, "kill", lambda *_: ended.append("asked"))
    monkeypatch.setattr(module.os, "_exit", lambda *_: ended.append("ended"))
    return ended


def test_a_process_that_falls_silent_is_named_by_all_others(store, quick, caplog):
    found = met(store, 3)
    together([peer.watch for peer in found])
    found[1]._left.set()  # it gives no more signs, and has not said that it is done

    def waits(peer):
        with peer.told_of_loss():
            peer._wait(["never"])

    for error in together([lambda peer=peer: waits(peer) for peer in (found[0], found[2])]):
        assert isinstance(error, PeerLost)
        (note,) = error.__notes__
        assert note.startswith("rank 1 (process")
        assert "has given no sign of life for" in note
        assert "resume run=RUN" in note
    time.sleep(1.5)
    assert quick == []  # they end by themselves
    for peer in found:
        peer._left.set()


def test_a_process_that_waits_in_native_code_is_ended(store, quick):
    found = met(store)
    together([peer.watch for peer in found])
    found[1]._left.set()
    assert found[0]._found.wait(10)
    time.sleep(2.0)
    assert quick == ["asked", "ended"]
    found[0]._left.set()


def test_an_error_of_one_process_is_what_the_others_say(store, quick):
    found = met(store)
    together([peer.watch for peer in found])

    def fails():
        with found[1].told_of_loss():
            raise ValueError("the disk is full")

    def suffers():
        with found[0].told_of_loss():
            time.sleep(0.3)
            raise RuntimeError("Connection closed by peer [10.0.0.2]:1234")

    own, other = together([fails, suffers])
    assert isinstance(own, ValueError)
    assert isinstance(other, PeerLost)
    assert "rank 1 (process" in other.__notes__[0]
    assert "ended by ValueError: the disk is full" in other.__notes__[0]
    for peer in found:
        peer._left.set()


def test_those_that_are_done_are_not_missed(store, quick):
    found = met(store)
    together([peer.watch for peer in found])
    found[1].leave()
    time.sleep(3.5)
    assert found[0]._verdict is None
    found[0].leave()


def test_an_error_that_has_nothing_to_do_with_the_others_stays_what_it_is(store, quick):
    found = met(store)
    together([peer.watch for peer in found])
    with pytest.raises(RuntimeError, match="broken pipe"), found[0].told_of_loss():
        raise RuntimeError("broken pipe of a loader")
    for peer in found:
        peer._left.set()

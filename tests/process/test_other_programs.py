import os

import psutil
import pytest

from lesion_exp.process.other_programs import OtherPrograms, Reading, read_clocks


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def watched(used: float, own: float, seconds: float = 2.0) -> OtherPrograms:
    """What is known `seconds` later, in which all programs used `used` seconds of processors and this one `own`."""
    readings = iter([Reading(10.0, 100.0, 5.0), Reading(10.0 + seconds, 100.0 + used, 5.0 + own)])
    return OtherPrograms(lambda: next(readings))


@pytest.mark.usefixtures("two_cores")
def test_a_busy_program_beside_two_threads_is_named_with_a_remedy():
    text = watched(used=3.8, own=2.0).warning(threads=2)
    assert text is not None
    assert "about 0.9 of the 2 cores" in text
    assert "OMP_NUM_THREADS=1 " in text


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("used", "own", "seconds", "threads"),
    [
        (3.9, 3.8, 2.0, 2),  # nobody else
        (3.9, 2.0, 2.0, 1),  # a thread that waits for nobody
        (0.4, 0.0, 0.2, 2),  # too early to say
        (1.0, 1.5, 2.0, 2),  # clocks of the two kinds tick apart
    ],
)
def test_nothing_is_said_without_a_reason(used, own, seconds, threads):
    assert watched(used, own, seconds).warning(threads) is None


def test_nothing_is_said_where_this_process_has_cores_of_its_own(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert watched(used=120.0, own=2.0).warning(threads=2) is None


def test_a_large_machine_with_free_cores_is_not_busy(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert watched(used=14.0, own=2.0).warning(threads=8) is None
    assert "OMP_NUM_THREADS=10 " in (watched(used=14.0, own=2.0).warning(threads=16) or "")


def test_the_clocks_go_forward():
    first = read_clocks()
    sum(range(2_000_000))
    later = read_clocks()
    assert later.time > first.time
    assert later.used >= first.used > 0
    assert later.own >= first.own > 0

from types import SimpleNamespace

import pytest

from lesion_exp.process.peer_heartbeats import PeerLost
from lesion_exp.sweeps.run_cell import DONE, run_cell

RUN = "a" * 32


@pytest.fixture(params=[RuntimeError("no answer"), PeerLost("rank 1 has given no heartbeat for 30 s")])
def followers_that_hear_nothing(request, monkeypatch):
    """The other processes of a cell cannot be told that there is nothing to train."""

    def fail():
        raise request.param

    monkeypatch.setattr("lesion_exp.sweeps.run_cell.dismiss", fail)


@pytest.mark.usefixtures("followers_that_hear_nothing")
def test_a_cell_is_recorded_also_if_its_other_processes_cannot_be_told_that_it_is_done(planned, monkeypatch):
    done_before, held, found_finished = planned("seed=1,2,3").cells()
    done_before.write(status="finished", attempts=1, run_id=RUN)
    assert run_cell(done_before) == DONE
    assert (done_before.recorded().status, done_before.recorded().attempts) == ("finished", 1)
    held.write(status="running", attempts=1, host="another machine")
    with monkeypatch.context() as patched:
        patched.setattr("lesion_exp.sweeps.run_cell.hold", lambda lock: False)
        assert run_cell(held) == DONE
    assert held.recorded().host == "another machine"
    metrics = {"best/val/balanced_accuracy": 0.7}
    run = SimpleNamespace(run_id=RUN, status="FINISHED", tags={}, results=lambda: metrics)
    monkeypatch.setattr("lesion_exp.sweeps.run_cell.find_tagged", lambda *_: run)
    found_finished.write(status="queued", attempts=1)
    assert run_cell(found_finished) == DONE
    state = found_finished.recorded()
    assert (state.status, state.run_id, state.metrics, state.error) == ("finished", RUN, metrics, None)

import threading
import time

import pytest

from lesion_exp.verbs.serve.batcher import Batcher


def batcher(compute, max_batch=4, max_wait_s=5.0):
    sizes = []
    made = Batcher(compute, max_batch, max_wait_s, sizes.append)
    return made, sizes


def test_what_waits_goes_together_and_in_order():
    made, sizes = batcher(lambda batch: [2 * number for number in batch])
    futures = [made.submit(number) for number in range(10)]
    made.start()
    assert [future.result(5) for future in futures] == [2 * number for number in range(10)]
    assert sizes == [4, 4, 2]
    made.stop()


def test_a_lone_one_does_not_wait_for_others():
    made, sizes = batcher(lambda batch: batch)
    made.start()
    began = time.monotonic()
    assert made.submit(1).result(5) == 1
    assert time.monotonic() - began < 1
    assert sizes == [1]
    made.stop()


def test_those_on_their_way_are_waited_for():
    made, sizes = batcher(lambda batch: batch)
    made.expect(2)
    made.start()
    first = made.submit(1)
    time.sleep(0.05)
    assert not first.done()
    second = made.submit(2)
    made.expect(-2)
    assert (first.result(5), second.result(5)) == (1, 2)
    assert sizes == [2]
    made.stop()


def test_waiting_has_an_end():
    made, sizes = batcher(lambda batch: batch, max_wait_s=0.02)
    made.expect(1)
    made.start()
    assert made.submit(1).result(5) == 1
    assert sizes == [1]
    made.stop()


def test_one_that_fails_does_not_fail_its_neighbours():
    def compute(batch):
        if 2 in batch:
            raise ValueError("not this one")
        return batch

    made, _ = batcher(compute)
    futures = [made.submit(number) for number in range(4)]
    made.start()
    assert [futures[number].result(5) for number in (0, 1, 3)] == [0, 1, 3]
    with pytest.raises(ValueError, match="not this one"):
        futures[2].result(5)
    assert made.submit(9).result(5) == 9
    made.stop()


def test_what_nobody_waits_for_any_more_is_not_computed():
    seen = []
    made, sizes = batcher(lambda batch: seen.extend(batch) or batch)
    futures = [made.submit(number) for number in range(3)]
    assert futures[1].cancel()
    made.start()
    futures[2].result(5)
    made.stop()
    assert seen == [0, 2]
    assert sizes == [2]


def test_the_end_answers_what_is_there_and_takes_no_more():
    going = threading.Event()
    made, _ = batcher(lambda batch: going.wait(5) and batch, max_batch=1)
    futures = [made.submit(number) for number in range(3)]
    made.start()
    going.set()
    made.stop()
    assert [future.result(0) for future in futures] == [0, 1, 2]
    assert not made.is_alive
    with pytest.raises(RuntimeError):
        made.submit(4)

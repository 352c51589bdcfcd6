import threading
import time

from lesion_exp.verbs.serve.batcher import PixelBudget


def test_large_images_wait_for_each_other_and_small_ones_do_not():
    budget, log = PixelBudget(100), []

    def decode(count, name):
        with budget.hold(count):
            log.append(name)

    with budget.hold(60):
        large = threading.Thread(target=decode, args=(60, "large"))
        large.start()
        time.sleep(0.05)
        small = threading.Thread(target=decode, args=(40, "small"))
        small.start()
        small.join(5)
        assert log == ["small"]
    large.join(5)
    assert log == ["small", "large"]


def test_one_that_is_larger_than_all_has_it_alone():
    budget = PixelBudget(100)
    with budget.hold(5_000_000):
        pass
    with budget.hold(1):
        pass

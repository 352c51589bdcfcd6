import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from lesion_exp.data.lock import is_held
from lesion_exp.tracking import spool as spool_module
from lesion_exp.tracking.spool import LOCK_FILE, Spool, SpoolHeld, read_header


def steps(spool: Spool) -> list[int]:
    """Takes everything out, in small helpings; the steps in their order."""
    found = []
    while entries := spool.peek(3):
        found += [entry["step"] for entry in entries]
        spool.take(len(entries))
    return found


def add(spool: Spool, *numbers: int) -> None:
    for number in numbers:
        spool.add("metrics", time=1, step=number, values={"train/loss": 0.1 * number})


def test_entries_leave_in_the_order_in_which_they_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "LARGEST_SEGMENT", 200)  # a few entries a file
    spool = Spool(tmp_path / "spool")
    add(spool, *range(50))
    assert spool.waiting == 50
    assert len(list((tmp_path / "spool").glob("0*.jsonl"))) > 5
    assert [entry["step"] for entry in spool.peek(2)] == [0, 1]
    spool.take(1)
    add(spool, 50)
    assert steps(spool) == list(range(1, 51))
    assert spool.waiting == 0
    assert not list((tmp_path / "spool").glob("0*.jsonl"))


def test_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    values = {"a": 0.1 + 0.2, "b": float("nan"), "c": float("inf"), "mélanome": 1e-300}
    spool = Spool(tmp_path / "spool")
    spool.add("metrics", time=1, step=2, values=values)
    (entry,) = spool.peek(1)
    assert repr(entry["values"]) == repr(values)


def test_what_waits_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool")
    add(first, 1, 2, 3)
    first.peek(3)
    first.take(1)
    first.close()
    second = Spool(tmp_path / "spool")
    add(second, 4)
    assert steps(second) == [1, 2, 3, 4]  # a journal file is delivered again from its start
    second.close()
    assert not (tmp_path / "spool").exists()


def test_a_killed_process_loses_nothing_and_half_a_line_is_left_out(tmp_path: Path) -> None:
    program = f"""
        import os, signal
        from pathlib import Path
        from lesion_exp.tracking.spool import Spool
        spool = Spool(Path({str(tmp_path)!r}) / "spool")
        for step in range(20):
            spool.add("metrics", time=1, step=step, values={{}})
        spool._writing.write(b'{{"kind": "metr')
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert ended.returncode == -signal.SIGKILL
    spool = Spool(tmp_path / "spool")
    assert spool.waiting == 20
    add(spool, 20)
    assert steps(spool) == list(range(21))


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    program = f"""
        import resource
        from pathlib import Path
        from lesion_exp.tracking.spool import Spool
        spool = Spool(Path({str(tmp_path)!r}) / "spool")
        spool.add("tags", values={{"a": "x" * 100}})
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, most))
        try:
            spool.add("tags", values={{"b": "x" * 100}})
        except OSError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        spool.add("tags", values={{"c": "x"}})
        spool.close()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    assert "No space left" in ended.stdout
    assert [list(entry["values"]) for entry in Spool(tmp_path / "spool").peek(5)] == [["a"], ["c"]]


def test_a_file_is_kept_as_it_was_and_its_copy_goes_with_its_entry(tmp_path: Path) -> None:
    source = tmp_path / "log.txt"
    source.write_text("first")
    spool = Spool(tmp_path / "spool")
    spool.add_file(source, "log.txt")
    source.write_text("second")
    (entry,) = spool.peek(1)
    assert spool.file(entry).read_text() == "first"
    spool.take(1)
    assert not list((tmp_path / "spool" / "files").iterdir())


def test_what_is_refused_waits_apart_until_it_is_tried_again(tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(b"123")
    spool = Spool(tmp_path / "spool")
    spool.add_file(source, "large.bin")
    add(spool, 1)
    spool.set_aside(spool.peek(1)[0], "too large")
    assert steps(spool) == [1]
    assert (spool.waiting, spool.refused) == (0, 1)
    spool.close()
    again = Spool(tmp_path / "spool")
    again.retry_refused()
    (entry,) = again.peek(5)
    assert (entry["path"], again.file(entry).read_bytes(), again.refused) == ("large.bin", b"123", 0)


def test_one_process_holds_a_spool(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    lock = folder.with_name(LOCK_FILE)
    assert not is_held(lock)
    spool = Spool(folder)
    spool.describe({"run_id": "a"})
    add(spool, 1)
    assert is_held(lock)
    with pytest.raises(SpoolHeld):
        Spool(folder)
    spool.close()
    assert not is_held(lock)
    assert read_header(folder) == {"run_id": "a"}


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    program = f"""
        import time
        from pathlib import Path
        from lesion_exp.tracking.spool import Spool
        spool = Spool(Path({str(tmp_path)!r}) / "spool")
        print("held", flush=True)
        time.sleep(60)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(SpoolHeld):
        Spool(tmp_path / "spool")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    Spool(tmp_path / "spool").close()


def test_adding_and_taking_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "LARGEST_SEGMENT", 1000)
    spool = Spool(tmp_path / "spool")
    writers = [threading.Thread(target=add, args=(spool, *range(begin, begin + 300))) for begin in (0, 1000, 2000)]
    for writer in writers:
        writer.start()
    found: list[int] = []
    while any(writer.is_alive() for writer in writers) or spool.waiting:
        found += steps(spool)
    assert sorted(found) == [begin + number for begin in (0, 1000, 2000) for number in range(300)]
    for begin in (0, 1000, 2000):  # each writer's own order
        own = [step for step in found if begin <= step < begin + 300]
        assert own == sorted(own)

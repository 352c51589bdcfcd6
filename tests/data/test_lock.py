import errno
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lesion_exp.data import lock
from lesion_exp.data.lock import check_locks, file_lock, hold, is_held, release
from lesion_exp.errors import ConfigError

HOLDER = """
    import sys, time
    from pathlib import Path
    from lesion_exp.data.lock import hold, release
    path = Path(sys.argv[1])
    print(hold(path), flush=True)
    sys.stdin.readline()
    release(path)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that holds `path` until it reads a line."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_a_lock_is_held_by_one_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "live" / "lock"
    assert is_held(path) is None
    assert hold(path)
    assert not hold(path)
    assert is_held(path)
    release(path)
    assert is_held(path) is None
    assert hold(path)
    release(path)


def test_the_lock_of_another_process_is_seen_and_free_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = holder(path)
    assert is_held(path)
    assert not hold(path)
    other.kill()
    other.wait()
    assert is_held(path) is False
    assert hold(path)
    release(path)


def test_a_folder_that_takes_no_files_is_an_error() -> None:
    with pytest.raises(OSError, match="x"):
        hold(Path("/proc/x.lock"))


def test_who_only_asks_keeps_nobody_from_holding(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = f"""
        from pathlib import Path
        from lesion_exp.data.lock import is_held
        print("asking", flush=True)
        while True:
            is_held(Path({str(path)!r}))
    """
    asking = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    try:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "asking\n"
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert hold(path)
            release(path)
    finally:
        asking.kill()
        asking.wait()


def test_two_that_take_turns_never_hold_it_at_once(tmp_path: Path) -> None:
    path, inside = tmp_path / "lock", tmp_path / "inside"
    program = f"""
        import sys, time
        from pathlib import Path
        from lesion_exp.data.lock import hold, release
        path, inside = Path({str(path)!r}), Path({str(inside)!r})
        for _ in range(100):
            while not hold(path):
                pass
            inside.touch(exist_ok=False)
            inside.unlink()
            release(path)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    others = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [other.communicate()[1] for other in others] == ["", "", ""]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    said = f"with file locks.*{os.strerror(number)}.*set paths.root=FOLDER"
    with pytest.raises(ConfigError, match=said), file_lock(tmp_path / "a.lock"):
        pass
    for ask in (lambda: hold(tmp_path / "b.lock"), lambda: check_locks(tmp_path / "live")):
        with pytest.raises(ConfigError, match=said):
            ask()
    (tmp_path / "b.lock").touch()
    assert is_held(tmp_path / "b.lock") is None


def test_an_operating_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / "a.lock").touch()
    with pytest.raises(ConfigError, match="such as Linux or macOS"):
        hold(tmp_path / "a.lock")
    with pytest.raises(ConfigError, match="such as Linux or macOS"), file_lock(tmp_path / "a.lock"):
        pass
    assert is_held(tmp_path / "a.lock") is None


def test_who_waits_for_a_lock_says_so_and_may_give_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "_WARN_AFTER_SECONDS", 0.1)
    with file_lock(tmp_path / "lock"), pytest.raises(TimeoutError), file_lock(tmp_path / "lock", 0.4):
        pass
    assert caplog.text.count("waiting for another process") == 1

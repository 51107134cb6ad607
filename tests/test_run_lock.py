"""One process trains in a run's folder at a time."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mmtune.cli import main
from mmtune.errors import UsageError
from mmtune.run_lock import LOCK, holder, run_lock

HOLD = """
import sys, time
from pathlib import Path
from mmtune.run_lock import run_lock
with run_lock(Path(sys.argv[1])) as taken_over:
    (Path(sys.argv[1]) / "made").touch()
    print(taken_over, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def held(folder, seconds=60):
    """Starts a process that holds the lock of a folder, and returns it once it does."""
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_a_second_process_is_refused_and_told_who_trains(tmp_path):
    process, _ = held(tmp_path / "run")
    with pytest.raises(UsageError, match=rf"process {process.pid} on \S+ \(since 20.*\) trains in this folder"):
        run_lock(tmp_path / "run").__enter__()
    assert holder(tmp_path / "run")["pid"] == process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert holder(tmp_path / "run") is None


def test_the_lock_of_a_killed_process_is_taken_over_with_a_word(tmp_path):
    process, before = held(tmp_path)
    assert before == "None"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with run_lock(tmp_path) as taken_over:
        assert taken_over.startswith(f"took over the run from process {process.pid} on ")
        assert holder(tmp_path)["pid"] == os.getpid()
    tmp_path.mkdir(exist_ok=True)
    with run_lock(tmp_path) as taken_over:
        assert taken_over is None


def test_who_only_looks_keeps_nobody_out(tmp_path):
    ended = threading.Event()

    def look():
        while not ended.is_set():
            holder(tmp_path)
            time.sleep(0.0001)

    (tmp_path / "made").touch()
    (tmp_path / LOCK).touch()
    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(1000):
            with run_lock(tmp_path):
                pass
            (tmp_path / LOCK).touch()
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_it_is_gone_when_the_process_ends(tmp_path):
    process, _ = held(tmp_path, seconds=0)
    process.wait()
    assert [file.name for file in tmp_path.iterdir()] == ["made"]


def test_a_folder_that_stays_empty_is_removed_again(tmp_path):
    with pytest.raises(ValueError, match="wrong"), run_lock(tmp_path / "run"):
        raise ValueError("wrong")
    assert not (tmp_path / "run").exists()


def test_a_lock_file_that_is_removed_while_another_waits_for_it_locks_nobody_out(tmp_path, monkeypatch):
    """The one that has opened the old file finds that it is another one by now, and begins anew."""
    import mmtune.run_lock as module

    found = []
    real = module._is_same

    def is_same(descriptor, file):
        if not found:
            file.unlink()
        found.append(real(descriptor, file))
        return found[-1]

    monkeypatch.setattr(module, "_is_same", is_same)
    with run_lock(tmp_path):
        assert found == [False, True]
        assert (tmp_path / LOCK).is_file()


def test_where_the_file_system_knows_no_locks_the_process_number_counts(tmp_path, monkeypatch):
    import errno
    import fcntl

    def flock(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "recipe.toml").touch()
    with run_lock(tmp_path):
        written = (tmp_path / LOCK).read_text()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / LOCK).write_text(written.replace(str(os.getpid()), str(process.pid)))
    with pytest.raises(UsageError, match="trains in this folder"), run_lock(tmp_path):
        pass
    process.communicate(b"\n")
    with run_lock(tmp_path) as taken_over:
        assert f"process {process.pid}" in taken_over


def test_the_command_line_refuses_a_folder_in_use(tmp_path, capsys):
    words = [
        "train",
        "--task",
        "detection",
        "--data",
        "shapes:train?n=4",
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "1",
    ]
    with run_lock(tmp_path / "run"), pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert "trains in this folder" in capsys.readouterr().err


def test_a_folder_that_another_run_removes_is_made_again(tmp_path):
    """Runs that end at once, in one folder: each holds its lock or is refused, and none meets a missing folder."""
    faults = []

    def begin_and_end():
        for _ in range(200):
            try:
                with run_lock(tmp_path / "run"):
                    pass
            except UsageError:
                continue
            except OSError as error:
                faults.append(error)

    threads = [threading.Thread(target=begin_and_end) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


@pytest.mark.parametrize("kind", ["file", "broken link", "below a broken link"])
def test_what_is_no_folder_is_refused(tmp_path, kind):
    if kind == "file":
        (tmp_path / "run").touch()
    else:
        (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    folder = tmp_path / "run" / "one" if kind == "below a broken link" else tmp_path / "run"
    with pytest.raises(OSError, match="File exists"):
        run_lock(folder).__enter__()


def test_a_folder_that_is_a_link_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "there")
    with run_lock(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []

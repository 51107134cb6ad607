"""Benchmarks run contenders as processes that may fail, hang or say too much."""

import sys
import time

from benchmarks.speed.attempt import attempt


def test_the_last_line_is_what_a_process_found():
    done = attempt([sys.executable, "-c", "print('compiling'); print('{}')"])
    assert (done.line, done.failure) == ("{}", "")


def test_a_failure_is_told_by_the_line_that_names_it():
    program = "import sys; sys.stderr.write('ValueError: too narrow\\nsee the guide'); sys.exit(3)"
    done = attempt([sys.executable, "-c", program])
    assert "ValueError: too narrow" in done.failure
    assert "see the guide" in done.errors


def test_a_process_that_hangs_is_ended_with_its_children(tmp_path):
    child = f"import time; time.sleep(3); open({str(tmp_path / 'alive')!r}, 'w')"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    done = attempt([sys.executable, "-c", program], limit=1)
    assert "1" in done.failure
    assert time.monotonic() - start < 3
    time.sleep(3)
    assert not (tmp_path / "alive").exists()

"""What ends the page ends the run that it trains, with everything kept, and the next page goes on with it."""

import signal
import subprocess
import sys
import time

import pytest
from default_signals import start
from gradio_client import Client

from mmtune.run_lock import holder

pytestmark = pytest.mark.usefixtures("quick_compiles")


class Page:
    """`mmtune demo` in a process of its own."""

    def __init__(self, runs):
        words = ["demo", "--port", "0", "--runs", str(runs), "--data", "shapes:train?n=4&max_objects=1"]
        self.process = start([sys.executable, "-m", "mmtune", *words], stdout=subprocess.PIPE)
        self.client = Client(self.process.stdout.readline().split("open ")[1].split()[0], verbose=False)

    def wait_for_step(self, run, step):
        deadline = time.monotonic() + 300
        while (status := self.client.predict(run, api_name="/train_status"))["step"] < step:
            assert status["state"] == "running", status
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return status["step"]


def test_a_run_outlives_whatever_ends_the_page(tmp_path):
    page = Page(tmp_path)
    few = "shapes:train?n=4&max_objects=1"
    run = page.client.predict(few, "detection", "tiny", 5000, 2, 0.0, 2, 0.0, api_name="/train_start")["run"]
    step = 0
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        step = page.wait_for_step(run, step + 5)
        deadline = time.monotonic() + 300
        while holder(tmp_path / run) is None:  # after a resume the log is there before the process that goes on with it
            assert time.monotonic() < deadline
            time.sleep(0.1)
        page.process.send_signal(number)
        code = page.process.wait(60)
        assert code == (-number if number == signal.SIGKILL else 128 + number)
        deadline = time.monotonic() + 60
        while holder(tmp_path / run) is not None:  # after SIGKILL, the run's process ends by itself
            assert time.monotonic() < deadline
            time.sleep(0.1)
        kept = max(int(folder.name) for folder in (tmp_path / run / "checkpoints").iterdir() if folder.name.isdecimal())
        assert kept >= step
        page = Page(tmp_path)
        assert page.client.predict(run, api_name="/train_status")["state"] == "stopped"
        assert page.client.predict(run, api_name="/train_resume")["state"] == "running"
    page.wait_for_step(run, step + 5)
    page.process.send_signal(signal.SIGINT)
    page.process.wait(60)

"""What `mmtune demo` refuses before anything is loaded, and what the help costs."""

import socket
import subprocess
import sys

import pytest

from mmtune.cli import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines"),
        (["--host", "::"], "add --public"),
        (["--host", "example.org"], "add --public"),
        (["--share"], "--share lets other machines"),
        (["--auth", "me"], "USER:PASSWORD"),
        (["--auth", ":x"], "USER:PASSWORD"),
        (["--host", "203.0.113.7", "--public"], "cannot listen on 203.0.113.7"),
    ],
)
def test_refused(words, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(["demo", *words, "--port", "0"])
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_a_taken_port_is_said(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit) as left:
            main(["demo", "--port", str(taken.getsockname()[1])])
    assert left.value.code == 2
    assert "choose another --port" in capsys.readouterr().err


def test_the_framework_is_imported_by_the_page_alone():
    code = "import sys, mmtune.cli, mmtune.cli.demo, mmtune.api; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

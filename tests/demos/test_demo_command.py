"""What `mmtune demo` refuses before anything is loaded, and what the help costs."""

import socket
import subprocess
import sys
from pathlib import Path

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
        (["--auth-file", "/nowhere/users"], "cannot be read"),
        (["--allow-host", "https://example.org"], "expected a host name"),
        (["--allow-host", "example.org:80"], "without port"),
        (["--allow-frame", "*"], "expected an origin"),
        (["--host", "203.0.113.7", "--public"], "cannot listen on 203.0.113.7"),
        (["tiny", "nosuch"], "unknown model 'nosuch'"),
        (["tniy"], "did you mean 'tiny'?"),
        (["none.gguf"], "unknown model 'none.gguf'"),
        ([str(Path(__file__).parent)], "expected a run folder"),
        ([__file__], "expected the folder of a model"),
    ],
)
def test_refused(words, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(["demo", *words, "--port", "0"])
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_users_come_from_an_option_the_environment_or_a_file(tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr("mmtune.demos.app.serve", lambda settings: served.append(settings) or Quiet())
    file = tmp_path / "users"
    file.write_text("ann:one\n\n bob:t:w:o \n")
    for words in ([], ["--auth", "me:secret"], ["--auth-file", str(file)]):
        with pytest.raises(SystemExit):
            main(["demo", *words, "--port", "0"])
    monkeypatch.setenv("MMTUNE_AUTH", "env:secret")
    with pytest.raises(SystemExit):
        main(["demo", "--port", "0"])
    monkeypatch.delenv("MMTUNE_AUTH")
    both = (("ann", "one"), ("bob", "t:w:o"))
    assert [settings.auth for settings in served] == [(), (("me", "secret"),), both, (("env", "secret"),)]
    file.write_text("ann:one\nbob\n")
    with pytest.raises(SystemExit):
        main(["demo", "--auth-file", str(file), "--port", "0"])


class Quiet:
    """A server that ends at once."""

    url = "none"

    def ready(self):
        pass

    wait = close = ready


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

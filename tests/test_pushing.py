"""Models to the hub by its real client: all of it or nothing shows, and what arrived is not sent twice."""

import pytest
from commands import run
from hub_server import running

from mmtune.errors import ModelError, UsageError
from mmtune.pushing import push

NAME = "cats/pushed"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with running(monkeypatch, tmp_path / "cache", {}) as server:
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield server


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "exported"
    (made / ".cache").mkdir(parents=True)
    for name, content in {
        "config.json": b"{}",
        "model-00001-of-00002.safetensors": b"1" * 1000,
        "model-00002-of-00002.safetensors": b"2" * 1000,
        ".cache/left": b"not for others",
    }.items():
        (made / name).write_bytes(content)
    return made


def uploads(hub):
    return [line for line in hub.requests if line.startswith("PUT")]


def test_all_files_arrive(hub, folder):
    assert push(folder, f"hf://{NAME}").startswith(hub.endpoint)
    assert hub.files[NAME] == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert len(uploads(hub)) == 2
    hub.requests.clear()
    push(folder, f"hf://{NAME}")
    assert not uploads(hub)


def test_a_cut_upload_shows_nothing_and_goes_on_where_it_stopped(hub, folder):
    hub.breaks = 1
    with pytest.raises(ModelError, match=rf"hf://{NAME}: "):
        push(folder, f"hf://{NAME}")
    assert hub.files[NAME] == {}
    arrived = len(hub.stored)
    hub.requests.clear()
    push(folder, f"hf://{NAME}")
    assert len(uploads(hub)) == 2 - arrived
    assert len(hub.files[NAME]) == 3


def test_who_may_not_write_is_told_to_log_in(hub, folder):
    hub.refuse[NAME] = (403, "")
    with pytest.raises(ModelError, match="log in with `hf auth login`"):
        push(folder, f"hf://{NAME}")


def test_a_dry_run_asks_nobody(hub, folder, capsys):
    code, out, err = run(capsys, "push", folder, f"hf://{NAME}", "--dry-run")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["2", "config.json"],
        ["1,000", "model-00001-of-00002.safetensors"],
        ["1,000", "model-00002-of-00002.safetensors"],
    ]
    assert f"3 files, 2,002 bytes would go to hf://{NAME}" in err
    assert not hub.requests
    code, _, err = run(capsys, "push", folder, f"hf://{NAME}")
    assert code == 0
    assert "uploaded 3 files, 2,002 bytes: http" in err


@pytest.mark.parametrize(
    ("made", "address", "message"),
    [
        ("", f"hf://{NAME}", "expected the folder of a model, with config.json or adapter_config.json"),
        ("recipe.toml", f"hf://{NAME}", "found a run: write one by `mmtune export`"),
        ("config.json", "cats/pushed", "expected an address such as hf://org/name"),
        ("config.json", "hf://cats", "expected hf://org/name"),
        ("config.json", "kaggle://cats/pushed", "expected kaggle://owner/model/framework/variation"),
    ],
)
def test_wrong_usage(tmp_path, made, address, message):
    folder = tmp_path / "out"
    folder.mkdir()
    if made:
        (folder / made).touch()
    with pytest.raises(UsageError, match=message):
        push(folder, address)


def test_what_is_left_of_a_failed_export_is_not_pushed(tmp_path):
    (tmp_path / "out.failed").mkdir()
    (tmp_path / "out.failed" / "config.json").touch()
    with pytest.raises(UsageError, match="an export that failed: it is not the model"):
        push(tmp_path / "out.failed", f"hf://{NAME}")
    with pytest.raises(UsageError, match="there is none"):
        push(tmp_path / "nowhere", f"hf://{NAME}")

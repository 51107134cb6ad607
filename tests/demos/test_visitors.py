"""Each visitor has uploads, checks and runs of their own."""

import asyncio
import os
import subprocess
import time
from types import SimpleNamespace

import pytest

from mmtune.demos import training
from mmtune.demos.limits import Limits
from mmtune.demos.plan import Plan
from mmtune.demos.shelf import Shelf
from mmtune.demos.training import Trainer
from mmtune.demos.visitors import COOKIE, VisitorCookie, is_identity, visitor_of
from mmtune.errors import DataError, UsageError

ANN, BOB = "a" * 32, "b" * 32
FEW = {"few": "shapes:train?n=4"}


def request(username=None, session="s", **cookies):
    return SimpleNamespace(username=username, cookies=cookies, session_hash=session)


def test_a_visitor_is_a_user_a_cookie_or_a_session():
    token = "x" * 43
    same = visitor_of(request(session="1", **{COOKIE: token}))
    assert same == visitor_of(request(session="2", **{COOKIE: token}))
    assert is_identity(same)
    found = [
        same,
        visitor_of(request(username="ann", **{COOKIE: token})),
        visitor_of(request(username=token)),
        visitor_of(request(session=token)),
        visitor_of(request(session="1", **{COOKIE: "short"})),
        visitor_of(request(session=None)),
        visitor_of(request(session=None)),
    ]
    assert len(set(found)) == len(found)
    assert visitor_of(request(username="ann", session="7")) == found[1]
    assert token not in "".join(found)


def cookie_of(path="/", kind="http", **headers):
    sent = []

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(VisitorCookie(app)({"type": kind, "path": path, "headers": fields}, None, send))
    return dict(sent[0]["headers"]).get(b"set-cookie", b"").decode()


def test_who_has_no_cookie_is_given_one():
    first, second = cookie_of(), cookie_of("/config")
    assert first != second
    assert "HttpOnly" in first
    assert "SameSite=Lax" in first
    name, _, token = first.partition(";")[0].partition("=")
    assert name == COOKIE
    assert cookie_of(cookie=f"other=1; {COOKIE}={token}") == ""
    assert cookie_of(cookie=f"{COOKIE}=short") != ""
    assert cookie_of("/gradio_api/queue/join") == ""
    assert cookie_of(kind="lifespan") == ""


def sent(folder, text="{}"):
    folder.mkdir(exist_ok=True)
    (folder / "mine.jsonl").write_text(text)
    return [folder / "mine.jsonl"]


def test_an_upload_is_seen_by_its_visitor_alone(tmp_path):
    trainer = Trainer(tmp_path / "runs", FEW)
    assert trainer.upload(ANN, sent(tmp_path / "a")) == "mine"
    assert trainer.upload(BOB, sent(tmp_path / "b")) == "mine"
    assert trainer.upload(ANN, sent(tmp_path / "a")) == "mine-2"
    assert trainer.datasets(ANN) == ("few", "mine", "mine-2")
    assert trainer.datasets(BOB) == ("few", "mine")
    assert trainer.address(ANN, "mine") != trainer.address(BOB, "mine")
    for function in (trainer.address, lambda who, name: trainer.check(who, name, "ocr", tmp_path)):
        with pytest.raises(UsageError, match="unknown data set 'mine-2'") as caught:
            function(BOB, "mine-2")
        assert ANN not in str(caught.value)
    # A later server finds them again.
    assert Trainer(tmp_path / "runs", FEW).datasets(ANN) == ("few", "mine", "mine-2")
    assert Trainer(tmp_path / "runs", FEW, alone=False).datasets("c" * 32) == ("few",)


def test_what_a_check_says_names_no_path_of_the_server(tmp_path):
    trainer = Trainer(tmp_path / "runs", {"broken": str(tmp_path / "operator")})
    sent(tmp_path / "operator", '{"image": "none.png", "suffix": "x"}')
    for content in ('{"image": "none.png", "suffix": "x"}\n', "no JSON", '{"image": "/etc/passwd", "suffix": "x"}'):
        name = trainer.upload(ANN, sent(tmp_path / "a", content))
        with pytest.raises(DataError) as caught:
            trainer.check(ANN, name, "ocr", tmp_path / "out")
        assert str(tmp_path) not in str(caught.value)
        assert ANN not in str(caught.value)
    with pytest.raises(DataError) as caught:
        trainer.check(ANN, "broken", "ocr", tmp_path / "out")
    assert str(tmp_path) not in str(caught.value)
    rows = '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\nno JSON\n'
    name = trainer.upload(ANN, sent(tmp_path / "a", rows))
    report = "\n".join(trainer.check(ANN, name, "instruct", tmp_path / "out").lines)
    assert f"{name}/mine.jsonl" in report
    assert str(tmp_path) not in report
    assert ANN not in report


@pytest.fixture
def sleeping(monkeypatch):
    """Runs are processes that do nothing."""
    popen = subprocess.Popen
    monkeypatch.setattr(training.subprocess, "Popen", lambda _, **settings: popen(["sleep", "60"], **settings))


@pytest.mark.usefixtures("sleeping")
def test_a_run_is_seen_by_its_visitor_alone(tmp_path):
    trainer = Trainer(tmp_path, FEW)
    plan = Plan(task="ocr", data=trainer.address(ANN, "few"), data_name="few")
    try:
        run = trainer.start(ANN, plan)
        assert trainer.status(ANN, run)["state"] == "running"
        assert trainer.latest(ANN) == run
        assert trainer.latest(BOB) is None
        for function in (trainer.status, trainer.stop, trainer.resume, trainer.ended):
            with pytest.raises(UsageError, match=f"unknown run '{run}'.* Known: none"):
                function(BOB, run)
        with pytest.raises(UsageError, match=f"busy: {run} is being trained"):
            trainer.start(ANN, plan)
        with pytest.raises(UsageError, match="busy: another visitor's run") as caught:
            trainer.start(BOB, plan)
        assert run not in str(caught.value)
        trainer.stop(ANN, run)
        other = trainer.start(BOB, plan)
        assert other != run
        assert trainer.status(ANN, run)["state"] == "stopped"
    finally:
        trainer.close()


def run_folder(folder, name, data="shapes"):
    (folder / name).mkdir(parents=True)
    (folder / name / "recipe.toml").write_text(f'task = "ocr"\ndata = "{data}"\n')


def test_runs_of_earlier_belong_to_the_operator_where_nobody_else_comes_in(tmp_path):
    for name in ("before", "of-ann"):
        run_folder(tmp_path, name)
    (tmp_path / ".of-ann.owner").write_text(ANN)
    alone, shared = Trainer(tmp_path, FEW), Trainer(tmp_path, FEW, alone=False)
    run_folder(tmp_path, "by-command")
    run_folder(tmp_path, "of-bob")
    (tmp_path / ".of-bob.owner").write_text(BOB)
    assert set(alone.runs(ANN)) == {"before", "of-ann", "by-command"}
    assert set(alone.runs(BOB)) == {"before", "of-ann", "by-command", "of-bob"}
    assert shared.runs(ANN) == ("of-ann",)
    assert shared.runs(BOB) == ("of-bob",)
    assert shared.runs("c" * 32) == ()
    with pytest.raises(UsageError, match="unknown run"):
        shared.status("", "before")


def test_a_name_is_not_inherited(tmp_path):
    """A run that another one's name is given to, after that was removed, is not its visitor's."""
    tmp_path.joinpath(".ocr.owner").write_text(ANN)
    trainer = Trainer(tmp_path, FEW, alone=False)
    run_folder(tmp_path, "ocr")
    assert trainer.runs(ANN) == ()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(visitor_sets=2), "you have 2 data sets here"),
        (Limits(visitor_bytes=2000), "your data sets take"),
        (Limits(all_bytes=2000), "no space left"),
    ],
)
def test_uploads_have_a_quota(tmp_path, limits, said):
    trainer = Trainer(tmp_path / "runs", FEW, limits)
    for _ in range(2):
        trainer.upload(ANN, sent(tmp_path / "a", "x" * 1000))
    with pytest.raises(UsageError, match=f"{said}.*24 hours after their last use"):
        trainer.upload(ANN, sent(tmp_path / "a", "x"))
    if limits.all_bytes == 2000:
        with pytest.raises(UsageError, match=said):
            trainer.upload(BOB, sent(tmp_path / "b", "x"))
    else:
        assert trainer.upload(BOB, sent(tmp_path / "b", "x")) == "mine"


def test_an_upload_does_not_go_beyond_what_is_left(tmp_path):
    trainer = Trainer(tmp_path / "runs", FEW, Limits(visitor_bytes=1500))
    trainer.upload(ANN, sent(tmp_path / "a", "x" * 1000))
    with pytest.raises(DataError, match="give a part of it"):
        trainer.upload(ANN, sent(tmp_path / "a", "x" * 1000))
    assert trainer.datasets(ANN) == ("few", "mine")
    assert trainer.upload(ANN, sent(tmp_path / "a", "x" * 500)) == "mine-2"


def age(folder, hours):
    os.utime(folder, 2 * (time.time() - 3600 * hours,))


@pytest.mark.usefixtures("sleeping")
def test_uploads_are_removed_by_their_age(tmp_path):
    trainer = Trainer(tmp_path / "runs", FEW)
    names = [trainer.upload(ANN, sent(tmp_path / "a")) for _ in range(3)]
    folders = [tmp_path / "runs" / "data" / ANN / name for name in names]
    age(folders[0], 25)
    age(folders[1], 23)
    old, kept, trained = (trainer.address(ANN, name) for name in names)
    try:
        trainer.start(ANN, Plan(task="ocr", data=trained))
        age(folders[2], 25)
        trainer.clean()
        assert [folder.exists() for folder in folders] == [False, True, True]
        assert trainer.datasets(ANN) == ("few", names[2], names[1])
        with pytest.raises(UsageError, match="unknown data set"):
            trainer.address(ANN, names[0])
        for run, data in (("gone", old), ("there", kept)):
            run_folder(tmp_path / "runs", run, data)
        with pytest.raises(UsageError, match=r"the data set of gone is gone: .* 24 hours after their last use"):
            trainer.resume(ANN, "gone")
        with pytest.raises(UsageError, match="busy"):
            trainer.resume(ANN, "there")
    finally:
        trainer.close()
    trainer.clean()
    assert not folders[2].exists()


def test_an_opened_run_is_seen_by_its_visitor_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("mmtune.demos.shelf.load", lambda place, **_: place)
    for folder in ("a/tiny", "b/mine", "c/mine"):
        run_folder(tmp_path, folder)
    shelf = Shelf(["tiny", str(tmp_path / "a/tiny"), str(tmp_path / "b/mine")])
    assert shelf.names == ("tiny", "tiny-2", "mine")
    assert shelf.open(ANN, str(tmp_path / "c/mine")) == "mine-2"
    assert shelf.open(BOB, str(tmp_path / "b/mine")) == "mine"
    assert shelf.seen(ANN) == ("tiny", "tiny-2", "mine", "mine-2")
    assert shelf.seen(BOB) == shelf.names == ("tiny", "tiny-2", "mine")
    assert shelf.get(ANN, "mine-2") == str(tmp_path / "c/mine")
    with pytest.raises(UsageError, match="unknown model 'mine-2'"):
        shelf.get(BOB, "mine-2")
    with pytest.raises(UsageError, match="unknown model"):
        shelf.get(ANN, str(tmp_path / "c/mine"))

"""The functions of the page by `gradio_client` and by hand: right answers, sentences, shut doors."""

import io
import json
import sys
import threading
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from servers import served
from test_limits import png_bomb

import mmtune
from mmtune.data.convert import convert
from mmtune.data.dataset import Dataset
from mmtune.predicting import predict

DOCUMENTED = {
    "/predict": ["image", "task", "prompt", "model", "max_tokens"],
    "/models": [],
    "/train_data": ["files"],
    "/train_start": ["data", "task", "model", "steps", "batch_size", "learning_rate", "lora_rank", "val"],
    "/train_status": ["run"],
    "/train_stop": ["run"],
    "/train_resume": ["run"],
}
PROMPT = "detect circle ; star ; square"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data = {"few": "shapes:train?n=4&max_objects=1"}
    with served(tmp_path_factory.mktemp("runs"), data=data) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return Client(server.url, verbose=False, download_files=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Scenes as files, about each of which the model says something else."""
    folder = tmp_path_factory.mktemp("files")
    scenes = mmtune.read("shapes:val?n=24&max_objects=3", task="detection")
    answers = predict(mmtune.load("tiny"), [r.picture for r in scenes], task="detection", prompt=PROMPT, max_tokens=32)
    told = {answer.text: answer.record.picture for answer in answers if answer.boxes}
    assert len(told) >= 6
    for place, picture in enumerate(list(told.values())[:6]):
        picture.open().save(folder / f"{place}.png")
    return sorted(folder.iterdir())


def picture_of(drawn):
    return Image.open(io.BytesIO(httpx.get(drawn["url"]).content))


def test_the_names_and_arguments_are_those_of_the_page(client):
    named = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    found = {name: [argument["parameter_name"] for argument in each["parameters"]] for name, each in named.items()}
    assert found == DOCUMENTED
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text()
    assert all(name in page for name in [*found, *(a for arguments in found.values() for a in arguments)])


def test_an_answer_is_that_of_predict(client, files):
    drawn, answer = client.predict(handle_file(files[0]), "detection", PROMPT, "tiny", 32, api_name="/predict")
    (wanted,) = predict(mmtune.load("tiny"), [files[0]], task="detection", prompt=PROMPT, max_tokens=32)
    expected = json.loads(json.dumps(wanted.as_json()))
    assert answer.pop("image").endswith(".png")
    expected.pop("image")
    for one, other in zip(answer.pop("tokens"), expected.pop("tokens"), strict=True):
        assert one["text"] == other["text"]
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
    for one, other in zip(answer["boxes"], expected["boxes"], strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-4)
    assert answer == expected
    assert answer["boxes"]
    assert np.array_equal(np.asarray(picture_of(drawn).convert("RGB")), np.asarray(wanted.draw()))


def test_a_text_has_no_picture(client):
    drawn, answer = client.predict(None, "instruct", "hot", "", 8, api_name="/predict")
    assert drawn is None
    assert (answer["task"], answer["prompt"].strip()) == ("instruct", "hot")


def test_everybody_gets_the_answer_to_their_own_picture(server, files):
    wanted = {
        file: answer.text
        for file, answer in zip(
            files, predict(mmtune.load("tiny"), files, task="detection", prompt=PROMPT, max_tokens=32), strict=True
        )
    }
    assert len(set(wanted.values())) == len(files)
    server.batcher.sizes.clear()
    found = {}

    def ask(file):
        client = Client(server.url, verbose=False, download_files=False)
        found[file] = client.predict(handle_file(file), "detection", PROMPT, "tiny", 32, api_name="/predict")[1]["text"]

    threads = [threading.Thread(target=ask, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == wanted
    assert sum(server.batcher.sizes) == len(files)


def test_models_are_listed(client):
    assert client.predict(api_name="/models") == [{"name": "tiny", "base": "tiny", "task": None, "classes": []}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([None, "detection", PROMPT, "tiny", 0], "give a picture"),
        ([None, "painting", "", "tiny", 0], "unknown task"),
        ([None, "instruct", "", "tiny", 0], "needs a prompt"),
        ([None, "instruct", "x", "runs/secret", 0], "unknown model"),
        ([None, "instruct", "x", "/etc/passwd", 0], "unknown model"),
        ([None, "instruct", "x" * 2001, "tiny", 0], "at most 2,000"),
        ([None, "instruct", {"a": 1}, "tiny", 0], "must be a text"),
        ([None, "instruct", "x", "tiny", "many"], "max_tokens"),
        ([None, "instruct", "x", "tiny", 10**9], "max_tokens"),
        ([None, ["instruct"], "x", "tiny", 1], "choose a task"),
    ],
)
def test_wrong_questions_are_answered_with_a_sentence(client, arguments, said):
    with pytest.raises(AppError, match=said):
        client.predict(*arguments, api_name="/predict")


def test_broken_and_huge_pictures_are_answered_with_a_sentence(client, tmp_path):
    for name, data, said in (
        ("bomb.png", png_bomb(30_000, 30_000), "million pixels"),
        ("x.png", b"GIF89a", "no picture"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AppError, match=said) as caught:
            client.predict(handle_file(tmp_path / name), "ocr", "", "", 4, api_name="/predict")
        assert str(tmp_path) not in str(caught.value)


def call(server, data, function="predict"):
    """Calls a function as any program could; returns the last lines of its answer, or the status that refused it."""
    posted = httpx.post(f"{server.url}gradio_api/call/{function}", json={"data": data}, timeout=60)
    if posted.status_code != 200:
        return posted.status_code, posted.text
    event = posted.json()["event_id"]
    return 200, httpx.get(f"{server.url}gradio_api/call/{function}/{event}", timeout=60).text


@pytest.mark.parametrize(
    "file",
    [
        {"path": "/etc/passwd"},
        {"path": "../../../../etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": "http://127.0.0.1:1/a.png", "meta": {"_type": "gradio.FileData"}},
        {"url": "file:///etc/passwd", "meta": {"_type": "gradio.FileData"}},
        "/etc/passwd",
        ["/etc/passwd"],
        17,
    ],
)
def test_no_file_of_ours_can_be_named(server, file):
    status, text = call(server, [file, "ocr", "", "", 2])
    assert "root:" not in text
    assert status == 400 or "error" in text


def test_no_file_of_ours_can_be_fetched(server, files, tmp_path):
    (tmp_path / "secret.txt").write_text("treasure")
    for path in ("/etc/passwd", str(tmp_path / "secret.txt"), str(files[0]), "pyproject.toml", "../../etc/passwd"):
        for route in ("file=", "file/"):
            answer = httpx.get(f"{server.url}gradio_api/{route}{path}")
            assert answer.status_code in (400, 403, 404), path
            assert "treasure" not in answer.text


def test_a_message_of_ten_megabytes_is_refused_and_the_next_answered(server, client):
    status, text = call(server, [None, "instruct", "x" * 10_000_000, "tiny", 2])
    assert status == 413
    assert "send less" in text
    assert client.predict(None, "instruct", "hot", "tiny", 2, api_name="/predict")[1]["task"] == "instruct"


def test_script_stays_text(client):
    nasty = "<script>alert(1)</script> ${alert(2)} {{x}}"
    _, answer = client.predict(None, "instruct", nasty, "tiny", 2, api_name="/predict")
    assert answer["prompt"].strip() == nasty


def test_a_run_is_started_watched_and_stopped(client):
    started = client.predict("few", "detection", "tiny", 500, 2, 0.0, 2, 0.25, api_name="/train_start")
    run = started["run"]
    assert started["state"] == "running"
    assert started["command"].startswith("mmtune train --task detection --data 'shapes:train?n=4&max_objects=1'")
    with pytest.raises(AppError, match="busy"):
        client.predict("few", "detection", api_name="/train_start")
    assert client.predict(run, api_name="/train_status")["state"] == "running"
    assert client.predict(run, api_name="/train_stop")["state"] == "stopped"
    for function, argument in (("/train_stop", run), ("/train_status", "../../etc"), ("/train_resume", "none")):
        with pytest.raises(AppError):
            client.predict(argument, api_name=function)
    with pytest.raises(AppError, match="unknown data set"):
        client.predict("/etc", "detection", api_name="/train_start")


def test_two_visitors_have_data_sets_and_runs_of_their_own(server, tmp_path):
    """The second waits until the first one's run is stopped; who comes back with the cookie finds it again."""
    convert(Dataset(tuple(mmtune.read("shapes?n=4&max_objects=1", task="detection")), ()), tmp_path / "secret", "coco")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for file in (tmp_path / "secret").rglob("*"):
            archive.write(file, file.relative_to(tmp_path / "secret"))
    told = []

    def visit(**settings):
        client = Client(server.url, verbose=False, download_files=False, **settings)

        def call(function, *arguments):
            try:
                told.append(client.predict(*arguments, api_name=f"/{function}"))
            except AppError as error:
                told.append(str(error))
            return told[-1]

        return client, call

    def settled(call, run):
        while (status := call("train_status", run))["state"] == "running":
            time.sleep(0.5)
        return status

    first, ann = visit()
    _, bob = visit()
    many = ("detection", "tiny", 5000, 2, 0.0, 2, 0.0)
    for call in (ann, bob):
        assert call("train_data", [handle_file(tmp_path / "mine.zip")]) == {"data": "mine"}
    run = ann("train_start", "mine", *many)["run"]
    command = ann("train_status", run)["command"]
    assert command.startswith("mmtune train --task detection --data 'mine?confined=1' --model tiny --out detection")
    assert (
        bob("train_start", "mine", *many) == "busy: another visitor's run is being trained; try again when it has ended"
    )
    for function in ("train_status", "train_stop", "train_resume"):
        assert bob(function, run).startswith(f"unknown run '{run}'")
    # The first closes the program, and comes back with the cookie that it kept.
    _, later = visit(httpx_kwargs={"cookies": dict(first.cookies)})
    assert later("train_status", run)["state"] == "running"
    assert later("train_stop", run)["state"] == "stopped"
    other = bob("train_start", "mine", *many)["run"]
    assert other != run
    assert (
        ann("train_start", "mine", *many) == "busy: another visitor's run is being trained; try again when it has ended"
    )
    assert bob("train_stop", other)["state"] == "stopped"
    # What cannot be trained on is said by the run's process, and all else that is wrong by the page's.
    (tmp_path / "bad.jsonl").write_text(f'{{"image": "{tmp_path}/secret/x.png", "suffix": "x"}}\nno JSON\n')
    (tmp_path / "broken.zip").write_bytes(b"none")
    bad = bob("train_data", [handle_file(tmp_path / "bad.jsonl")])["data"]
    failed = settled(bob, bob("train_start", bad, "ocr")["run"])
    assert failed["state"] == "failed"
    assert f"{bad}/bad.jsonl" in failed["message"]
    for arguments in (
        ("train_data", []),
        ("train_data", [handle_file(tmp_path / "broken.zip")]),
        ("train_start", "x", "ocr"),
    ):
        bob(*arguments)
    bob("predict", None, "ocr", "", str(tmp_path), 0)
    for call in (ann, bob):
        call("models")
    told += [httpx.get(f"{server.url}{path}").text for path in ("", "config", "gradio_api/info")]
    written = json.dumps(told)
    own = (
        server.settings.runs,
        Path.cwd(),
        Path.home(),
        Path(mmtune.__file__).parent,
        Path(sys.prefix),
        "site-packages",
    )
    assert [str(path) for path in own if str(path) in written] == []


def test_only_who_knows_the_password_comes_in(tmp_path):
    with served(tmp_path, auth=(("me", "secret"),), training=False) as server:
        for path in ("config", "gradio_api/info", "gradio_api/file=/etc/passwd"):
            assert httpx.get(f"{server.url}{path}").status_code == 401
        assert call(server, [None, "instruct", "hot", "", 2])[0] == 401
        client = Client(server.url, auth=("me", "secret"), verbose=False, download_files=False)
        assert client.predict(api_name="/models")[0]["name"] == "tiny"
        named = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
        assert sorted(named) == ["/models", "/predict"]  # nobody trains where that was turned off

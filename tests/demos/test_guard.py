"""Which doors are open, and what a message may hold."""

import asyncio
import json

import pytest

from mmtune.demos.guard import Guard, is_open, names_address, page_headers
from mmtune.demos.limits import Limits
from mmtune.errors import UsageError

LIMITS = Limits(body=1000, upload=3000)


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/login", "/assets/index.js", "/theme.css"]
    + [f"/gradio_api/{rest}" for rest in ("info", "upload", "queue/join", "queue/data", "call/predict", "heartbeat/x")]
    + ["/gradio_api/file=/tmp/x/a.png"],
)
def test_what_the_page_needs_is_open(path):
    assert is_open(path)


@pytest.mark.parametrize(
    "path",
    ["/monitoring", "/runs", "/docs", "/etc/passwd", "/assets/../../etc/passwd", "/gradio_api/proxy=https://a.b/c"]
    + ["/gradio_api/file=http://127.0.0.1:22/", "/gradio_api/file= HTTPS://a.b", "/gradio_api/file=//a.b/c"]
    + [f"/gradio_api/{rest}" for rest in ("vibe-edit", "vibe-code/", "process_recording", "custom_component/a/b/c/d")]
    + ["/gradio_api/component_server", "/gradio_api/deep_link", "/gradio_api/file=file:///etc/passwd", "/pwa_icon"],
)
def test_everything_else_is_shut(path):
    assert not is_open(path)


def dumped(value):
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "value",
    [
        {"data": [{"path": "http://10.0.0.1/a.png"}]},
        {"data": [{"path": "//10.0.0.1/a.png"}, 1]},
        {"data": {"a": [{"deep": {"path": " FTP://x/y"}}]}},
        {"data": [{"url": "https://a.b/c.png", "path": None}]},
        {"data": [{"url": "data:image/png;base64,AAAA", "path": "/tmp/a"}]},
    ],
)
def test_addresses_in_place_of_files_are_noticed(value):
    assert names_address(dumped(value))


@pytest.mark.parametrize(
    "body",
    [
        dumped({"data": [{"path": "/tmp/a.png", "url": "http://127.0.0.1:7860/gradio_api/file=/tmp/a.png"}]}),
        dumped({"data": ["look at http://a.b/c.png", 3, None]}),
        b"no json",
        b"[" * 5000,
        b"",
    ],
)
def test_ordinary_messages_pass(body):
    assert not names_address(body)


def ask(path="/gradio_api/queue/join", method="POST", parts=(b"{}",), headers=(), answer=(), frames=()):
    """Sends a request through the guard; returns what came back and what got through."""
    got, sent = [], []

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        while True:
            message = await receive()
            got.append(message.get("body", b"") if message["type"] == "http.request" else message["type"])
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": list(answer)})
        await send({"type": "http.response.body", "body": b"ok"})

    messages = [{"type": "http.request", "body": p, "more_body": i < len(parts) - 1} for i, p in enumerate(parts)]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "method": method, "headers": list(headers)}
    asyncio.run(Guard(app, LIMITS, frames)(scope, receive, send))
    return sent[0]["status"], sent[0]["headers"], sent[-1]["body"], got


def test_a_message_passes_whole_and_the_answer_says_what_a_page_may_load():
    status, headers, body, got = ask(parts=(b'{"a":', b"1}"))
    assert (status, body, b"".join(got)) == (200, b"ok", b'{"a":1}')
    assert set(page_headers()) <= set(headers)
    assert b"connect-src 'self'" in dict(headers)[b"content-security-policy"]


@pytest.mark.parametrize(
    "request_",
    [
        {"parts": (b"x" * 600, b"x" * 600)},  # does not say how long it is
        {"headers": [(b"content-length", b"1001")]},
        {"path": "/gradio_api/upload", "headers": [(b"content-length", b"4001")]},
        {"method": "GET", "headers": [(b"content-length", b"99999999999999")]},
    ],
)
def test_a_message_too_large_is_refused(request_):
    status, _, body, got = ask(**request_)
    assert status == 413
    assert "send less" in json.loads(body)["detail"]
    assert not got


def test_an_upload_that_goes_on_is_cut_off():
    *_, got = ask(path="/gradio_api/upload", parts=(b"x" * 3000, b"x" * 900, b"x" * 900, b"x"))
    assert got[-1] == "http.disconnect"
    assert sum(len(part) for part in got[:-1]) <= 4000


def test_an_address_is_refused_with_a_sentence():
    status, _, body, got = ask(parts=(dumped({"data": [{"path": "http://169.254.169.254/"}]}),))
    assert (status, got) == (400, [])
    assert "nothing is fetched" in json.loads(body)["detail"]


def test_no_other_page_may_show_this_one_in_a_frame_unless_asked():
    _, headers, *_ = ask()
    assert dict(headers)[b"content-security-policy"].endswith(b"; frame-ancestors 'none'")
    assert dict(headers)[b"x-frame-options"] == b"DENY"
    _, headers, *_ = ask(frames=("https://a.example", "https://b.example:8443"))
    policy = dict(headers)[b"content-security-policy"]
    assert policy.endswith(b"; frame-ancestors https://a.example https://b.example:8443")
    assert b"x-frame-options" not in dict(headers)


@pytest.mark.parametrize("origin", ["example.org", "*", "https://a.example/", "https://a b", "https://a;b", "ftp://a"])
def test_frames_are_allowed_to_origins_only(origin):
    with pytest.raises(UsageError, match="expected an origin"):
        page_headers((origin,))


def test_cookies_are_kept_to_the_page_itself():
    cookies = [(b"set-cookie", b"a=1; HttpOnly; SameSite=none; Secure"), (b"Set-Cookie", b"b=2; HttpOnly")]
    _, headers, *_ = ask(answer=cookies)
    found = [value for name, value in headers if name.lower() == b"set-cookie"]
    assert found == [b"a=1; HttpOnly; Secure; SameSite=Lax", b"b=2; HttpOnly; SameSite=Lax"]


def test_a_shut_door_is_404():
    assert ask(path="/monitoring", method="GET")[0] == 404

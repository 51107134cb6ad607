"""Which hosts a server answers to, and which sites may talk to it."""

import asyncio
import json

import pytest

from mmtune.demos.host_check import HostCheck, checked_host
from mmtune.errors import UsageError


def ask(host=b"localhost:7860", method="POST", allowed=(), public=False, kind="http", **fields):
    """Sends a request; returns its status and the sentence of a refusal."""
    sent = []

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message):
        sent.append(message)

    hosts = [host] if isinstance(host, bytes) else host
    headers = [(b"host", value) for value in hosts]
    headers += [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    scope = {"type": kind, "path": "/", "method": method, "headers": headers}
    asyncio.run(HostCheck(app, allowed, public)(scope, None, send))
    return sent[0]["status"], json.loads(sent[1]["body"]).get("detail", "")


@pytest.mark.parametrize("host", [b"localhost", b"LocalHost:7860", b"127.0.0.1:1", b"[::1]:7860", b"localhost."])
def test_this_machine_is_answered(host):
    assert ask(host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        *(b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example:7860", b"localhost@evil.example"),
        *(b"2130706433", b"[::2]", b"", b"a b", (), (b"localhost", b"evil.example")),
    ],
)
def test_other_hosts_are_not(host):
    status, sentence = ask(host)
    assert status == 403
    assert "--allow-host" in sentence
    assert "evil" not in sentence


def test_named_hosts_are_answered_and_public_ones_all():
    assert ask(b"demo.example.org", allowed=["Demo.Example.org"])[0] == 200
    assert ask(b"other.example.org", allowed=["demo.example.org"])[0] == 403
    assert ask(b"other.example.org", public=True)[0] == 200
    assert ask((), public=True)[0] == 403


@pytest.mark.parametrize("origin", [b"http://localhost:7860", b"http://LOCALHOST:7860"])
def test_its_own_pages_may_ask(origin):
    assert ask(origin=origin)[0] == 200


@pytest.mark.parametrize(
    "origin",
    [
        *(b"http://evil.example", b"http://localhost:3000", b"http://localhost", b"http://localhost:7860.evil.example"),
        *(b"http://127.0.0.1:7860", b"null", b"", b"http://[", b"file://localhost:7860"),
        b"chrome-extension://localhost:7860",
    ],
)
@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_others_may_not(origin, public, method):
    assert ask(origin=origin, method=method, public=public) == (403, "this request comes from another site")


def test_a_proxy_that_ends_tls_is_named():
    asked = {"origin": b"https://demo.example.org", "allowed": ["demo.example.org"]}
    assert ask(b"demo.example.org", **asked)[0] == 200
    assert ask(b"127.0.0.1:7860", **asked)[0] == 200
    assert ask(b"demo.example.org:443", public=True, origin=b"https://demo.example.org")[0] == 200


@pytest.mark.parametrize(
    ("site", "method", "status"),
    [
        *((b"cross-site", "POST", 403), (b"same-site", "POST", 403), (b"same-origin", "POST", 200)),
        *((b"none", "POST", 200), (b"cross-site", "GET", 200)),  # a link to the page may be followed
    ],
)
def test_what_a_browser_says_of_the_site_counts_where_there_is_no_origin(site, method, status):
    assert ask(sec_fetch_site=site, method=method)[0] == status


def test_other_kinds_of_messages():
    assert ask(b"evil.example", kind="websocket")[0] == 403
    assert ask(b"evil.example", kind="lifespan")[0] == 200


@pytest.mark.parametrize("name", ["", "a b", "https://a", "a:80", "a/b", "*"])
def test_names_are_host_names(name):
    with pytest.raises(UsageError, match="expected a host name"):
        checked_host(name)


def test_addresses_are_host_names_too():
    assert [checked_host(name) for name in ("::1", "[FE80::1]", "10.0.0.1")] == ["[::1]", "[fe80::1]", "10.0.0.1"]

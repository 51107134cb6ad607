"""Whom a server answers: requests that name one of its own hosts, sent by its own pages or by programs.

A stranger's web page reaches servers on the visitor's machine through the browser: by its own host name, once that
resolves to 127.0.0.1 (DNS rebinding), or by requests across sites. `Host` tells the first, `Origin` and
`Sec-Fetch-Site` the second. Any ASGI server can stand behind `HostCheck`.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from mmtune.errors import UsageError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOCAL = frozenset(["localhost", "127.0.0.1", "[::1]"])
"""Host names of this machine, always allowed."""

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ALLOWED_SITES = (None, b"same-origin", b"none")
_READING = ("GET", "HEAD", "OPTIONS")


class HostCheck:
    """ASGI middleware that answers requests to other hosts, or from other sites, with 403 and a sentence.

    Args:
        app: What is behind it.
        allowed: Host names besides those of this machine, such as `demo.example.org`, without port.
        public: Whether any host name is allowed; requests from other sites are refused all the same.

    Raises:
        UsageError: When a name is no host name.
    """

    def __init__(self, app: App, allowed: Iterable[str] = (), public: bool = False):
        self._app, self._public = app, public
        self._allowed = frozenset(map(checked_host, allowed))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] in ("http", "websocket") and (problem := self._problem(scope)):
            await refuse(send, 403, problem)
            return
        await self._app(scope, receive, send)

    def _problem(self, scope: Message) -> str | None:
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        hosts = [value for name, value in headers if name == b"host"]
        host = _split(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if host is None or not (self._public or host[0] in LOCAL | self._allowed):
            return "this server does not answer to that host name: name it by --allow-host when the server is started"
        fields = dict(headers)
        origin, site = fields.get(b"origin"), fields.get(b"sec-fetch-site")
        if origin is not None and not self._is_own(origin.decode("latin-1"), host):
            return "this request comes from another site"
        if origin is None and site not in _ALLOWED_SITES and scope.get("method", "GET") not in _READING:
            return "this request comes from another site"
        return None

    def _is_own(self, origin: str, host: tuple[str, str]) -> bool:
        """Whether an `Origin` is a page of this server: of the same host and port, or of an allowed name."""
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        found = _split(parts.netloc)
        if parts.scheme not in _DEFAULT_PORTS or found is None:
            return False
        default = _DEFAULT_PORTS[parts.scheme]
        same = found[0] == host[0] and (found[1] or default) == (host[1] or default)
        return same or found[0] in self._allowed


def checked_host(name: str) -> str:
    """Returns a host name in lower case, an IPv6 address in brackets.

    Raises:
        UsageError: When it is none.
    """
    plain = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    found = _split(plain)
    if found is None or found[1]:
        raise UsageError(f"--allow-host: expected a host name such as demo.example.org, without port, got '{name}'")
    return found[0]


async def refuse(send: Send, status: int, sentence: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answers a request with a status and {"detail": sentence}."""
    body = json.dumps({"detail": sentence}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def _split(host: str) -> tuple[str, str] | None:
    """Returns (name in lower case, port or ""), None where it is no host."""
    match = _HOST.fullmatch(host.strip())
    return (match["name"].lower().removesuffix("."), match["port"] or "") if match else None

"""What stands before every request: which addresses there are, how large a message may be, what a page may load.

The web framework has more doors than this page uses: it fetches addresses for its visitors, records, monitors, edits.
Only those that are used are open here.
"""

import json
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from mmtune.errors import UsageError

from .host_check import App, Message, Receive, Send, refuse
from .limits import LIMITS, Limits

_API = (
    "file=",
    "queue/",
    "call/",
    "run/",
    "upload",
    "upload_progress",
    "heartbeat/",
    "cancel",
    "reset",
    "info",
    "app_id",
    "user",
    "login_check",
    "token",
    "startup-events",
    "theme.css",
)
_PAGES = ("/", "/login", "/login/", "/logout", "/config", "/config/", "/theme.css", "/favicon.ico", "/robots.txt")
_FOLDERS = ("/assets/", "/static/", "/svelte/")
_PREFIX = "/gradio_api/"
_ADDRESS = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*://|//|data:)", re.IGNORECASE)

_POLICY = (
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "media-src 'self' blob:",
    "worker-src 'self' blob:",
    "connect-src 'self'",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
)
_COOKIE_SITE = re.compile(rb";\s*samesite=\w+", re.IGNORECASE)


def page_headers(frames: Sequence[str] = ()) -> tuple[tuple[bytes, bytes], ...]:
    """Returns what is sent with every answer: a browser that keeps to it asks no other server for anything.

    Args:
        frames: Origins whose pages may show this one in a frame, such as `https://example.org`.

    Raises:
        UsageError: When one is no origin.
    """
    for origin in frames:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise UsageError(f"--allow-frame: expected an origin such as https://example.org, got '{origin}'")
        if re.search(r"[\s;,'\"]", origin):
            raise UsageError(f"--allow-frame: expected an origin such as https://example.org, got '{origin}'")
    policy = "; ".join((*_POLICY, f"frame-ancestors {' '.join(frames) or chr(39) + 'none' + chr(39)}"))
    headers = [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
    return tuple(headers if frames else [*headers, (b"x-frame-options", b"DENY")])


class Guard:
    """ASGI middleware.

    Args:
        app: What is guarded.
        limits: Sizes.
        frames: As in `page_headers`.
    """

    def __init__(self, app: App, limits: Limits = LIMITS, frames: Sequence[str] = ()):
        self._app, self._limits, self._headers = app, limits, page_headers(frames)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 404 or 413 and a sentence."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        send = _with_headers(send, self._headers)
        path = scope["path"]
        if not is_open(path):
            await refuse(send, 404, "there is nothing at this address")
            return
        uploads = path.rstrip("/") == f"{_PREFIX}upload"
        most = self._limits.upload + self._limits.body if uploads else self._limits.body
        too_large = f"the message is larger than {most / 2**20:.0f} MB: send less"
        if _stated_length(scope) > most:
            await refuse(send, 413, too_large)
            return
        if scope["method"] == "POST" and not uploads:
            body = await _read(receive, most)
            if body is None:
                await refuse(send, 413, too_large)
                return
            if names_address(body):
                await refuse(send, 400, "pictures are taken as uploads, not as addresses: nothing is fetched here")
                return
            receive = _again(body, receive)
        elif uploads:
            receive = _counted(receive, most)
        await self._app(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether a path is one that the page or a client of its functions needs."""
    if path in _PAGES or path.startswith(_FOLDERS):
        return ".." not in path
    if not path.startswith(_PREFIX):
        return False
    rest = path.removeprefix(_PREFIX)
    if rest.startswith("file="):
        return not _ADDRESS.match(rest.removeprefix("file="))
    return rest.startswith(_API)


def names_address(body: bytes) -> bool:
    """Whether a message asks for a file by a web address, which the framework would fetch.

    A browser names its uploads by path and adds the address at which it shows them; that one is not used.
    """
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return False  # no JSON: the framework says so itself
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path, url = value.get("path"), value.get("url")
            if isinstance(path, str) and _ADDRESS.match(path):
                return True
            if isinstance(url, str) and (
                url.lstrip().lower().startswith("data:") or (_ADDRESS.match(url) and not path)
            ):
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


def _stated_length(scope: Message) -> int:
    text = dict(scope["headers"]).get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


async def _read(receive: Receive, most: int) -> bytes | None:
    """Returns the whole body, None where it is too large."""
    parts: list[bytes] = []
    total = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        part = message.get("body", b"")
        total += len(part)
        if total > most:
            return None
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives a body that was read already, then what comes after it."""
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


def _counted(receive: Receive, most: int) -> Receive:
    """Returns a `receive` that cuts the connection where an upload goes on beyond its limit."""
    total = 0

    async def counting() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        return {"type": "http.disconnect"} if total > most else message

    return counting


def _with_headers(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> Send:
    """Returns a `send` that adds headers, and keeps cookies to requests of the page itself."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [
                (name, _lax(value) if name.lower() == b"set-cookie" else value) for name, value in message["headers"]
            ]
            message["headers"] = [*own, *headers]
        await send(message)

    return sending


def _lax(cookie: bytes) -> bytes:
    return _COOKIE_SITE.sub(b"", cookie) + b"; SameSite=Lax"

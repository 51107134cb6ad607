"""Who sends a request: a user by name, else a browser or program by its cookie, else a session of the framework."""

import hashlib
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any

from .host_check import App, Message, Receive, Send

COOKIE = "mmtune_visitor"
"""A random token that the server gives to whoever brings none."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,100}")
_PAGES = ("/", "/config", "/config/")
_YEAR = 365 * 24 * 3600


def visitor_of(request: Any) -> str:
    """Returns the identity of whoever sent a request: 32 hexadecimal digits, from which no cookie can be told.

    Args:
        request: A `gr.Request`.
    """
    token = dict(request.cookies).get(COOKIE, "")
    if request.username:
        whose = f"user {request.username}"
    elif _TOKEN.fullmatch(token):
        whose = f"cookie {token}"
    else:
        whose = f"session {request.session_hash or secrets.token_hex(16)}"
    return hashlib.sha256(whose.encode()).hexdigest()[:32]


def is_identity(text: str) -> bool:
    """Whether a text is an identity, as a folder of uploads is named by it."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


class VisitorCookie:
    """ASGI middleware that gives a cookie to whoever opens the page without one.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on and adds the cookie to its answer."""
        if scope["type"] != "http" or scope["path"] not in _PAGES or _has_token(scope):
            await self._app(scope, receive, send)
            return
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        value = f"{COOKIE}={secrets.token_urlsafe(32)}; Path=/; Max-Age={_YEAR}; HttpOnly; SameSite=Lax{secure}"

        async def giving(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"set-cookie", value.encode())]
            await send(message)

        await self._app(scope, receive, giving)


def _has_token(scope: Message) -> bool:
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if found is not None and _TOKEN.fullmatch(found.value):
                return True
    return False

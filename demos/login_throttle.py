"""Wrong passwords cannot be tried without end."""

import time
from collections import deque
from collections.abc import Callable

from .host_check import App, Message, Receive, Send, refuse

_PATH = "/login"


class LoginThrottle:
    """ASGI middleware: after some wrong logins of one address, or of all together, further ones wait.

    Args:
        app: What is behind it; it answers a wrong login with a status from 400 on.
        most: Wrong logins of one address within `seconds`; of all addresses ten times as many.
        seconds: After how long a wrong login is forgotten.
        clock: Seconds, growing.
    """

    def __init__(self, app: App, most: int = 5, seconds: float = 60, clock: Callable[[], float] = time.monotonic):
        self._app, self._most, self._seconds, self._clock = app, most, seconds, clock
        self._wrong: deque[tuple[float, str]] = deque()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 429."""
        is_login = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/") == _PATH
        if not is_login:
            await self._app(scope, receive, send)
            return
        address = (scope.get("client") or ("",))[0]
        if (wait := self._wait(address)) > 0:
            seconds = str(int(wait) + 1)
            sentence = f"too many wrong logins: try again in {seconds} seconds"
            await refuse(send, 429, sentence, [(b"retry-after", seconds.encode())])
            return
        # Counted before it is answered, so that many at once do not slip through; taken back when it is right.
        attempt = (self._clock(), address)
        self._wrong.append(attempt)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400 and attempt in self._wrong:
                self._wrong.remove(attempt)
            await send(message)

        await self._app(scope, receive, noting)

    def _wait(self, address: str) -> float:
        """Returns for how many seconds an address has to wait."""
        now = self._clock()
        while self._wrong and self._wrong[0][0] <= now - self._seconds:
            self._wrong.popleft()
        own = [moment for moment, whose in self._wrong if whose == address]
        waits = [own[-self._most]] if len(own) >= self._most else []
        waits += [self._wrong[-10 * self._most][0]] if len(self._wrong) >= 10 * self._most else []
        return max((moment + self._seconds - now for moment in waits), default=0.0)

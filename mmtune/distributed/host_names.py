"""Addresses of host names, without a wait that a signal cannot end."""

import asyncio
import socket
import threading


async def addresses(host: str) -> list[str]:
    """Returns the IP addresses of a host name, in the system's order.

    The system may take minutes to answer and cannot be interrupted. asyncio's own threads would be waited for when the
    process ends; this one is not.

    Raises:
        socket.gaierror: When the name is unknown, or is none.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def give(answer: list[str] | socket.gaierror) -> None:
        if found.done():
            return
        if isinstance(answer, list):
            found.set_result(answer)
        else:
            found.set_exception(answer)

    def look() -> None:
        try:
            places = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answer = list(dict.fromkeys(str(place[0]) for *_, place in places))
        except socket.gaierror as error:
            answer = error
        except (OSError, UnicodeError) as error:  # a label that is empty or too long
            answer = socket.gaierror(socket.EAI_NONAME, str(error))
        try:
            loop.call_soon_threadsafe(give, answer)
        except RuntimeError:  # the loop has ended
            return

    threading.Thread(target=look, daemon=True, name="mmtune-host-name").start()
    return await found

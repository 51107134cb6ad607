"""Messages between processes: one JSON object a line."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

LIMIT = 2**22
"""Bytes of a message at most: the limit for streams of links, as asyncio takes it."""

Message = dict[str, Any]


class NoMessageError(Exception):
    """What came is no message: the other side is another program."""


class Link:
    """Sends and receives messages.

    Args:
        reader, writer: Of a connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer

    def send(self, message: Message) -> None:
        """Sends a message; nothing where the other side is gone, which `receive` tells."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def receive(self) -> Message | None:
        """Returns the next message, None when the other side is gone.

        Raises:
            NoMessageError: When something else came.
        """
        try:
            line = await self._reader.readline()
        except OSError:
            return None
        except ValueError as error:  # longer than the limit
            raise NoMessageError from error
        if not line:
            return None
        try:
            message = json.loads(line)
        except ValueError as error:
            raise NoMessageError from error
        if not isinstance(message, dict):
            raise NoMessageError
        return message

    async def messages(self) -> AsyncIterator[Message]:
        """Yields the messages until the other side is gone; what is none is passed over."""
        while True:
            try:
                message = await self.receive()
            except NoMessageError:
                continue
            if message is None:
                return
            yield message

    async def close(self) -> None:
        """Sends what was not sent yet and ends the connection."""
        try:
            self._writer.close()
            await asyncio.wait_for(self._writer.wait_closed(), 2)
        except (OSError, TimeoutError):
            return

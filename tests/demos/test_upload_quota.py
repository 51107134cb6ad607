"""The disk cannot be filled by uploads that nobody uses."""

import asyncio

from mmtune.demos.limits import Limits
from mmtune.demos.upload_quota import UploadQuota


def test_bytes_are_bounded_for_an_address_and_for_all():
    now = [0.0]

    async def app(_scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    quota = UploadQuota(app, Limits(sent_bytes=100, all_sent_bytes=250), seconds=60, clock=lambda: now[0])

    def upload(address, size, path="/gradio_api/upload"):
        parts = [{"body": b"x" * (size // 2), "more_body": True}, {"body": b"x" * (size - size // 2)}]
        sent = []

        async def receive():
            return parts.pop(0)

        async def send(message):
            sent.append(message)

        asyncio.run(quota({"type": "http", "path": path, "client": (address, 1)}, receive, send))
        return sent[0]["status"]

    assert [upload("a", 60), upload("a", 60), upload("a", 1), upload("a", 1, "/gradio_api/upload/")] == [
        200,
        200,
        429,
        429,
    ]
    assert upload("a", 10**4, "/gradio_api/queue/join") == 200
    now[0] = 30
    assert [upload("b", 99), upload("b", 60), upload("c", 1)] == [200, 200, 429]
    now[0] = 61
    assert [upload("a", 1), upload("c", 1), upload("b", 1)] == [200, 200, 429]
    now[0] = 91
    assert upload("b", 1) == 200

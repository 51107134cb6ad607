"""Wrong logins wait."""

import asyncio

import pytest

from mmtune.demos.login_throttle import LoginThrottle


class Door:
    """A login behind the throttle, and a clock."""

    def __init__(self, **options):
        self.now, self.tried = 0.0, 0
        self.throttle = LoginThrottle(self._app, clock=lambda: self.now, **options)

    async def _app(self, scope, _receive, send):
        self.tried += 1
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200 if scope["right"] else 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(self, *, right=False, address="10.0.0.1", path="/login", method="POST"):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "client": (address, 5), "right": right}
        await self.throttle(scope, None, send)
        return sent[0]["status"], dict(sent[0]["headers"])

    def login(self, **request):
        return asyncio.run(self.ask(**request))


def test_sixty_wrong_logins_reach_the_door_five_times():
    door = Door()
    statuses = [door.login()[0] for _ in range(60)]
    assert statuses == [400] * 5 + [429] * 55
    assert door.tried == 5
    status, headers = door.login(right=True)
    assert (status, headers[b"retry-after"]) == (429, b"61")


def test_they_are_forgotten_after_a_while():
    door = Door(most=2, seconds=10)
    assert [door.login()[0] for _ in range(3)] == [400, 400, 429]
    door.now = 9.9
    assert door.login()[0] == 429
    door.now = 10.0
    assert door.login(right=True)[0] == 200


def test_right_logins_do_not_count_and_other_addresses_do_not_suffer():
    door = Door(most=2)
    assert [door.login(right=True)[0] for _ in range(9)] == [200] * 9
    assert [door.login()[0] for _ in range(3)] == [400, 400, 429]
    assert door.login(address="10.0.0.2")[0] == 400


def test_many_addresses_together_wait_as_well():
    door = Door(most=2)
    statuses = [door.login(address=f"10.0.0.{number}")[0] for number in range(25)]
    assert statuses == [400] * 20 + [429] * 5


def test_many_at_once_do_not_slip_through():
    door = Door()

    async def at_once():
        return await asyncio.gather(*(door.ask() for _ in range(40)))

    assert sorted(status for status, _ in asyncio.run(at_once())) == [400] * 5 + [429] * 35


@pytest.mark.parametrize("request_", [{"path": "/"}, {"method": "GET"}, {"path": "/gradio_api/queue/join"}])
def test_other_requests_pass(request_):
    door = Door(most=1)
    assert [door.login(**request_)[0] for _ in range(5)] == [400] * 5
    assert door.login()[0] == 400

"""The demo page under load and under attack: `python -m benchmarks.demo [start|crowd|batching|hostile]`, or all of it.

- start: seconds from the command to the page, and to the first answer.
- crowd: clients that each ask about pictures whose answers are known, for a minute: lost and mixed-up answers, latency.
- batching: the same crowd before a server that decodes one question at a time; the ratio of what they got done.
- hostile: requests that no page would send. The server must go on answering, show no file, and give its memory back.

Clients and server share the machine's cores.
"""

import argparse
import io
import json
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

TASK, PROMPT, TOKENS = "detection", "detect circle ; star ; square ; heart ; moon", 32
_PROGRAM = """
import sys
from pathlib import Path
from mmtune.demos.app import Settings, serve
server = serve(Settings(port=int(sys.argv[1]), runs=Path(sys.argv[2]), batch=int(sys.argv[3])))
server.ready()
server.wait()
"""


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A server in a process of its own.

    Args:
        folder: Where it may write.
        batch: Most questions that are decoded together.
    """

    def __init__(self, folder: Path, batch: int = 16):
        self.since = time.perf_counter()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        words = [sys.executable, "-c", _PROGRAM, str(port), str(folder / "runs"), str(batch)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        self.page_seconds = self._until(lambda: httpx.get(self.url, timeout=2).status_code == 200)

    def memory(self) -> int:
        """Returns the bytes that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def _until(self, condition: Callable[[], bool], seconds: float = 300) -> float:
        while time.perf_counter() - self.since < seconds:
            if self.process.poll() is not None:
                raise RuntimeError("the server ended")
            try:
                if condition():
                    return time.perf_counter() - self.since
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise RuntimeError("the server does not answer")

    def close(self) -> None:
        """Ends the process."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


@contextmanager
def served(batch: int = 16) -> Iterator[Service]:
    """Yields a server in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder), batch)
        try:
            yield service
        finally:
            service.close()


def known_answers(folder: Path, count: int) -> dict[Path, str]:
    """Draws scenes into a folder; returns up to `count` about which the model says different things, and what."""
    import mmtune
    from mmtune.predicting import predict

    records = mmtune.read(f"shapes:val?n={3 * count}&max_objects=3", task=TASK)
    files = []
    for record in records:
        file = folder / f"{record.id}.png"
        assert record.picture is not None
        record.picture.open().save(file)
        files.append(file)
    answers = predict(mmtune.load("tiny"), files, task=TASK, prompt=PROMPT, max_tokens=TOKENS)
    found: dict[str, Path] = {}
    for file, answer in zip(files, answers, strict=True):
        if answer.text:
            found.setdefault(answer.text, file)
    return {file: text for text, file in list(found.items())[:count]}


def start() -> dict[str, float]:
    """Measures the start."""
    from gradio_client import Client

    with served() as service:
        client = Client(service.url, verbose=False, download_files=False)
        client.predict(None, "instruct", "hot", "", 4, api_name="/predict")
        return {"page": service.page_seconds, "first answer": time.perf_counter() - service.since}


def crowd(batch: int = 16, clients: int = 50, seconds: float = 60.0) -> dict[str, Any]:
    """Asks from many clients at once for so long, and checks every answer.

    Returns:
        Counts, latencies in seconds, and questions answered a second.
    """
    from gradio_client import Client, handle_file

    with tempfile.TemporaryDirectory() as folder, served(batch) as service:
        answers = known_answers(Path(folder), clients)
        files = list(answers)
        ready = [Client(service.url, verbose=False, download_files=False) for _ in range(clients)]
        for client in ready[:4]:
            ask = (handle_file(files[0]), TASK, PROMPT, "", TOKENS)
            client.predict(*ask, api_name="/predict")
        latencies: list[float] = []
        wrong: list[str] = []
        lost: list[str] = []
        end = time.perf_counter() + seconds

        def visit(number: int) -> None:
            turn = number
            while time.perf_counter() < end:
                file = files[turn % len(files)]
                turn += 1
                since = time.perf_counter()
                try:
                    ask = (handle_file(file), TASK, PROMPT, "", TOKENS)
                    _, answer = ready[number].predict(*ask, api_name="/predict")
                except Exception as error:
                    lost.append(str(error)[:200])
                    continue
                latencies.append(time.perf_counter() - since)
                if answer["text"] != answers[file]:
                    wrong.append(answer["text"])

        threads = [threading.Thread(target=visit, args=(number,)) for number in range(clients)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
    ordered = sorted(latencies)
    return {
        "clients": clients,
        "different answers": len(answers),
        "answered": len(latencies),
        "lost": len(lost),
        "reasons": sorted(set(lost))[:3],
        "mixed up": len(wrong),
        "median": statistics.median(ordered) if ordered else None,
        "95 %": ordered[int(0.95 * len(ordered))] if ordered else None,
        "a second": len(latencies) / took,
    }


def batching(clients: int = 50, seconds: float = 30.0) -> dict[str, float]:
    """Compares a server that decodes together with one that decodes one by one."""
    one, many = crowd(1, clients, seconds)["a second"], crowd(16, clients, seconds)["a second"]
    return {"one by one": one, "together": many, "ratio": many / one}


def png(width: int, height: int, data: bytes) -> bytes:
    """Returns a PNG whose header promises what its data may not keep."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


_SCRIPT = "<script>document.title='owned'</script><img src=x onerror=alert(1)>${alert(2)}{{x}}"


class Attacker:
    """Sends what no page would send, and looks for what must not come back.

    Args:
        url: The server.
        secret: A file of the server's machine, and what it holds.
        seed: Of the choice.
    """

    def __init__(self, url: str, secret: tuple[Path, str], seed: int):
        self._http = httpx.Client(base_url=url, timeout=120)
        self._secret, self._rng = secret, random.Random(seed)
        self.kinds = [
            self.picture,
            self.path,
            self.address,
            self.script,
            self.types,
            self.long,
            self.route,
            self.broken,
        ]

    def attack(self) -> str:
        """Makes one request; returns what came back, "" where the connection was cut."""
        try:
            return self._rng.choice(self.kinds)()
        except httpx.HTTPError:
            return ""

    def picture(self) -> str:
        """Uploads something that is no picture, or far too large a one, and asks about it."""
        from PIL import Image

        rng = self._rng
        noise = io.BytesIO()
        Image.effect_noise((300, 300), 90).save(noise, "PNG")
        data = rng.choice(
            [
                rng.randbytes(rng.randrange(1, 4000)),
                noise.getvalue()[: rng.randrange(20, 50_000)],
                png(30_000, 30_000, zlib.compress(bytes(10**7), 9)),
                png(4800, 4800, zlib.compress(bytes(4800 * 601), 9)),
                png(2**31 - 1, 2**31 - 1, b""),
                b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
                b"GIF89a" + rng.randbytes(100),
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
            ]
        )
        name = rng.choice(["a.png", "a.svg", "../../a.png", "a.jpg\0.php", "<b>.png", "a" * 300 + ".png"])
        posted = self._http.post("gradio_api/upload", files={"files": (name, data)})
        if posted.status_code != 200:
            return posted.text
        return self._predict({"path": posted.json()[0], "meta": {"_type": "gradio.FileData"}}, "ocr", "")

    def path(self) -> str:
        """Names a file of the machine as the picture."""
        file = self._rng.choice(
            ["/etc/passwd", str(self._secret[0]), "../../../../etc/passwd", "pyproject.toml", "/proc/self/environ"]
        )
        return self._predict({"path": file, "meta": {"_type": "gradio.FileData"}}, "ocr", "")

    def address(self) -> str:
        """Wants the server to fetch something."""
        where = self._rng.choice(
            ["http://169.254.169.254/", "file:///etc/passwd", "//localhost/x", "ftp://a.b/c", "data:,x"]
        )
        return self._predict({"path": where, "url": where, "meta": {"_type": "gradio.FileData"}}, "ocr", "")

    def script(self) -> str:
        """Writes markup into prompts, class names and the model's name."""
        values = self._rng.choice([("instruct", _SCRIPT, ""), ("instruct", "hot", _SCRIPT), (_SCRIPT, "hot", "")])
        return self._predict(None, *values)

    def types(self) -> str:
        """Sends values of any type in any place."""
        odd = [None, [], {}, [[[]]], {"a": {"b": 1}}, True, -1, 1e308, "", "\ud800", "\0", [1] * 1000, {"path": 3}]
        return self._send("predict", [self._rng.choice(odd) for _ in range(self._rng.randrange(0, 8))])

    def long(self) -> str:
        """Sends a prompt of ten megabytes."""
        return self._predict(None, "instruct", "x" * 10_000_000)

    def route(self) -> str:
        """Asks at doors that should be shut."""
        doors = [
            "file=/etc/passwd",
            f"file={self._secret[0]}",
            "file=http://localhost/",
            "proxy=http://localhost/",
            "vibe-code/",
        ]
        doors += ["file=../../etc/passwd", "custom_component/../../x/y/z/w", "monitoring", "stream/x/y/1/playlist.m3u8"]
        return self._http.get(f"gradio_api/{self._rng.choice(doors)}").text

    def broken(self) -> str:
        """Sends what is no message at all."""
        body = self._rng.choice(
            [b"", b"{", b"[" * 100_000, self._rng.randbytes(2000), b'{"data": ' + b"9" * 5000 + b"}"]
        )
        kind = self._rng.choice(["call/predict", "run/predict", "queue/join", "call/train_start", "call/none"])
        return self._http.post(f"gradio_api/{kind}", content=body, headers={"content-type": "application/json"}).text

    def _predict(self, image: Any, task: Any, prompt: Any, model: Any = "") -> str:
        return self._send("predict", [image, task, prompt, model, 4])

    def _send(self, function: str, data: list[Any]) -> str:
        body = json.dumps({"data": data}).encode()
        head = {"content-type": "application/json"}
        posted = self._http.post(f"gradio_api/call/{function}", content=body, headers=head)
        if posted.status_code != 200 or "event_id" not in posted.json():
            return posted.text
        return self._http.get(f"gradio_api/call/{function}/{posted.json()['event_id']}").text


def hostile(requests: int = 500, seed: int = 0) -> dict[str, Any]:
    """Attacks a server, twice: memory is compared with what it held after the first time, when all is warm."""
    from gradio_client import Client

    with tempfile.TemporaryDirectory() as folder, served() as service:
        secret = Path(folder) / "secret.txt"
        secret.write_text("the treasure lies under the oak")
        client = Client(service.url, verbose=False, download_files=False)
        leaks = 0

        def storm(count: int, seed: int) -> None:
            nonlocal leaks
            attacker = Attacker(service.url, (secret, ""), seed)
            for _ in range(count):
                said = attacker.attack()
                leaks += "root:" in said or "treasure" in said or "PATH=" in said

        storm(requests // 5, seed + 1)
        client.predict(None, "instruct", "hot", "", 4, api_name="/predict")
        before = service.memory()
        storm(requests, seed)
        alive = client.predict(None, "instruct", "hot", "", 4, api_name="/predict")[1]["task"] == "instruct"
        after = service.memory()
    return {"requests": requests, "alive": alive, "leaks": leaks, "memory": after / before, "megabytes": after / 2**20}


def main() -> None:
    """Runs the checks that are named and prints what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checks", nargs="*", choices=["start", "crowd", "batching", "hostile", []])
    parser.add_argument("--seconds", type=float, default=60.0)
    chosen = parser.parse_args()
    checks: dict[str, Callable[[], Any]] = {
        "start": start,
        "crowd": lambda: crowd(seconds=chosen.seconds),
        "batching": lambda: batching(seconds=chosen.seconds / 2),
        "hostile": hostile,
    }
    for name in chosen.checks or checks:
        print(json.dumps({name: checks[name]()}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    main()

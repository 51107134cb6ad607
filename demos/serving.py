"""Questions of many visitors, decoded together.

One thread owns the models. It takes the first question that waits, gives others of the same model a moment to arrive,
and answers them in one batch. What arrives meanwhile makes up the next one.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from mmtune.errors import MmtuneError
from mmtune.model import Model
from mmtune.streaming import Asked, Partial, stream_answers


class BusyError(MmtuneError):
    """More questions wait than are taken."""


@dataclass(eq=False)
class _Job:
    """A question in the queue.

    Attributes:
        updates: Parts of its answer, then None, or the error that ended it.
        left: Set when nobody waits for the answer any more.
        since: When it arrived, by `time.perf_counter`.
    """

    model: Model
    asked: Asked
    updates: "queue.SimpleQueue[Partial | Exception | None]" = field(default_factory=queue.SimpleQueue)
    left: threading.Event = field(default_factory=threading.Event)
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Answers questions in batches, in a thread of its own.

    Args:
        waiting: Most questions that wait; one more is refused.
        delay: Longest time in seconds that a question waits for company.
        batch: Most questions in a batch; 1 answers them one by one.
    """

    def __init__(self, *, waiting: int = 64, delay: float = 0.02, batch: int = 16):
        self.sizes: deque[int] = deque(maxlen=1000)
        """Questions of the latest batches, for whoever measures."""
        self._waiting, self._delay, self._batch = waiting, delay, batch
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="mmtune-decoding", daemon=True)
        self._thread.start()

    def stream(self, model: Model, asked: Asked) -> Iterator[Partial]:
        """Yields the answer as it grows; leaving the iterator gives the question up.

        Raises:
            BusyError: When too many questions wait.
        """
        job = _Job(model, asked)
        with self._changed:
            if self._closed:
                raise BusyError("the server is shutting down")
            if len(self._jobs) >= self._waiting:
                raise BusyError(f"busy: {self._waiting} questions are waiting already; try again in a moment")
            self._jobs.append(job)
            self._changed.notify()
        try:
            while (update := job.updates.get()) is not None:
                if isinstance(update, Exception):
                    raise update
                yield update
        finally:
            job.left.set()

    def ask(self, model: Model, asked: Asked) -> Partial:
        """Returns the whole answer.

        Raises:
            BusyError: When too many questions wait.
        """
        *_, last = self.stream(model, asked)
        return last

    def close(self) -> None:
        """Ends the thread; questions that still wait are refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=60)

    def _work(self) -> None:
        while jobs := self._next():
            self.sizes.append(len(jobs))
            try:
                self._answer(jobs)
            except Exception as error:
                # One question must not spoil the others': each is asked again by itself.
                if len(jobs) == 1:
                    jobs[0].updates.put(error)
                for job in jobs if len(jobs) > 1 else ():
                    try:
                        self._answer([job])
                    except Exception as own:
                        job.updates.put(own)
        for job in self._jobs:
            job.updates.put(BusyError("the server is shutting down"))

    def _next(self) -> list[_Job]:
        """Waits for a batch; none comes once the batcher is closed."""
        with self._changed:
            while True:
                self._jobs = [job for job in self._jobs if not job.left.is_set()]
                if self._closed:
                    return []
                if not self._jobs:
                    self._changed.wait()
                    continue
                first = self._jobs[0]
                chosen = [job for job in self._jobs if job.model is first.model][: self._batch]
                left = first.since + self._delay - time.perf_counter()
                if len(chosen) == self._batch or left <= 0:
                    taken = {id(job) for job in chosen}
                    self._jobs = [job for job in self._jobs if id(job) not in taken]
                    return chosen
                self._changed.wait(left)

    def _answer(self, jobs: list[_Job]) -> None:
        for grown in stream_answers(jobs[0].model, [job.asked for job in jobs], batch_size=self._batch):
            for place, partial in grown.items():
                jobs[place].updates.put(partial)
            if all(job.left.is_set() for job in jobs):
                break
        for job in jobs:
            job.updates.put(None)

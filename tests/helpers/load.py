"""Clients that append to a service all the time, and know what was acknowledged and what is in doubt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from buffer_client import BufferClient, Experience
from buffer_client.errors import ClientError, OutcomeUnknownError, ProtocolError, RetryLaterError
from tests.helpers.vectors import unit_vectors

ROWS_PER_APPEND = 4
_CLIENTS = 3


class Appender(threading.Thread):
    """One client. It ends when it is stopped, or when the service has gone."""

    def __init__(self, url: str, number: int, dimension: int, timeout_s: float) -> None:
        super().__init__(name=f"appender-{number}", daemon=True)
        self._client = BufferClient(url, retries=0, timeout_s=timeout_s)
        self._vectors = unit_vectors(256, dimension, seed=number)
        self._number = number
        self._stopped = threading.Event()
        self.acknowledged: dict[int, str] = {}
        """The name in the metadata of each id that was acknowledged."""
        self.in_doubt: set[str] = set()
        self.errors: list[ClientError] = []

    def run(self) -> None:
        """Append until stopped."""
        with self._client:
            place = 0
            while not self._stopped.is_set():
                names = [f"{self._number}-{place + row}" for row in range(ROWS_PER_APPEND)]
                place += ROWS_PER_APPEND
                if not self._append(names, place):
                    return

    def stop(self) -> None:
        """End after the append that is under way."""
        self._stopped.set()

    def _append(self, names: list[str], place: int) -> bool:
        rows = [self._vectors[(place + row) % len(self._vectors)] for row in range(len(names))]
        experiences = [
            Experience(visual=vector, confidence=0.5, metadata={"name": name})
            for vector, name in zip(rows, names, strict=True)
        ]
        try:
            ids = self._client.append(experiences).ids
        except (OutcomeUnknownError, ProtocolError) as error:
            self.in_doubt.update(names)
            self.errors.append(error)
            return isinstance(error, OutcomeUnknownError) and bool(error.status)
        except RetryLaterError as error:
            self.errors.append(error)
            return bool(error.status)
        self.acknowledged.update(zip(ids.tolist(), names, strict=True))
        return True


class Load:
    """Several clients at once."""

    def __init__(self, url: str, dimension: int, timeout_s: float) -> None:
        self.appenders = [Appender(url, number, dimension, timeout_s) for number in range(_CLIENTS)]

    @property
    def acknowledged(self) -> dict[int, str]:
        """The name of each id that was acknowledged to any client."""
        return {experience: name for item in self.appenders for experience, name in dict(item.acknowledged).items()}

    @property
    def errors(self) -> list[ClientError]:
        """What any client met."""
        return [error for item in self.appenders for error in item.errors]

    def stop(self) -> None:
        """Stop all clients, and wait for them."""
        for item in self.appenders:
            item.stop()
        for item in self.appenders:
            item.join()

    def check(self, client: BufferClient) -> None:
        """All that was acknowledged is there under its id, and beyond it whole appends that are in doubt."""
        found = {item.id: str((item.metadata or {})["name"]) for item in client.experiences()}
        known = self.acknowledged
        assert {experience: found.get(experience) for experience in known} == known
        beyond = {name for experience, name in found.items() if experience not in known}
        assert beyond <= set().union(*(item.in_doubt for item in self.appenders))
        assert len(beyond) % ROWS_PER_APPEND == 0
        assert len(set(found.values())) == len(found)
        np.testing.assert_array_equal(sorted(found), np.arange(1, len(found) + 1))


@contextmanager
def load_on(url: str, *, dimension: int = 8, timeout_s: float = 30.0) -> Iterator[Load]:
    """Append to the service meanwhile; the clients are stopped in the end."""
    load = Load(url, dimension, timeout_s)
    for item in load.appenders:
        item.start()
    try:
        yield load
    finally:
        load.stop()

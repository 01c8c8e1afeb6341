"""Our own run of the mixed benchmark: searches, appends, rebuilds with switches, a prober, and the check of answers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from benchmarks import search_ours
from benchmarks.caller import Caller
from benchmarks.datasets import Vectors
from benchmarks.mixed_timeline import Phase, Timeline, phase, timeline
from benchmarks.observed import Memory
from benchmarks.peers.contestant import Samples, finish, pacing, post, read_samples, start, timing
from benchmarks.processes import ROOT, Server
from benchmarks.search_data import Corpus, Ids, K
from buffer_service.api.messages import JSON, MESSAGE_PACK
from buffer_service.contract import names
from buffer_service.contract.generation import generation_name
from buffer_service.contract.status import ServiceStatus

BESIDE_S = 15.0
"""Seconds of searches beside appends before the first rebuild and after each switch."""
AROUND_S = 1.0
"""Seconds before and after a switch that count as around it."""
_LONG_S = 3600.0
_KEPT = 20
_PROBES_INTERVAL_S = 0.2
_POLL_INTERVAL_S = 0.2
_SWITCH_TIMEOUT_S = 600.0
_TOLERANCE = 1e-3
_NICELY = ("nice", "-n", "10")
"""As the service runs its builds."""
_WAITING = {"XBUF_REBUILD__MODE": "external"}


@dataclass(frozen=True, slots=True)
class Load:
    """Connections that search, and appends per second."""

    connections: int
    rate: float


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One rebuild: moments, and the processor time of the program that built."""

    began: float
    built: float
    switched: float
    cpu_s: float

    @property
    def share(self) -> float:
        """Share of all cores that the build took."""
        return self.cpu_s / (self.built - self.began) / (os.cpu_count() or 1)


@dataclass(slots=True)
class Probes:
    """Rows that were appended and had to be found at once, then removed and not to be found."""

    done: int = 0
    wrong: list[str] = field(default_factory=list)

    def run(self, url: str, rows: Vectors, stopped: threading.Event) -> None:
        """Probe until stopped."""
        with closing(Caller(url)) as caller:
            while not stopped.wait(_PROBES_INTERVAL_S):
                row = rows[self.done % len(rows)].astype("<f4").tobytes()
                body = msgspec.msgpack.encode({"experiences": [{"visual": row, "confidence": 0.5}]})
                answer = caller.call("POST", "/v1/experiences", body, MESSAGE_PACK)
                (experience,) = msgspec.msgpack.decode(answer)["ids"]
                if self._found(caller, row)[0] != experience:
                    self.wrong.append(f"{experience} was appended and not found")
                caller.call("DELETE", f"/v1/experiences/{experience}")
                if experience in self._found(caller, row):
                    self.wrong.append(f"{experience} was removed and found")
                self.done += 1

    @staticmethod
    def _found(caller: Caller, row: bytes) -> list[int]:
        answer = caller.call("POST", search_ours.SEARCH_PATH, row, search_ours.OCTETS)
        ids: list[int] = np.frombuffer(answer, "<i8", K).tolist()
        return ids


@dataclass(frozen=True, slots=True)
class Spans:
    """What was measured while an index was built, and in the seconds around the switches."""

    building: Phase
    around: Phase

    @classmethod
    def of(cls, samples: Samples, rebuilds: list[Rebuild]) -> Spans:
        """Cut them out of a run."""
        around = [(rebuild.switched - AROUND_S, rebuild.switched + AROUND_S) for rebuild in rebuilds]
        return cls(phase(samples, [(rebuild.began, rebuild.built) for rebuild in rebuilds]), phase(samples, around))


@dataclass(frozen=True, slots=True)
class Ours:
    """What was measured of ours."""

    timeline: Timeline
    rebuilds: list[Rebuild]
    searches: Spans
    appends: Spans
    before: Memory
    after: Memory
    appended: int
    """Rows that came between the two readings of memory."""
    checked: int
    probes: int
    wrong: list[str]
    refused: int


def measured(corpus: Corpus, folder: Path, load: Load, rebuilds: int, idle_s: float, console: Console) -> Ours:
    """Take the run: alone for ``idle_s``, beside appends with the rebuilds, and alone again."""
    place = folder / "ours"
    searched, appended = folder / "ours-searched.f64", folder / "ours-appended.f64"
    with search_ours.copied(corpus, place, _WAITING) as server:
        contestant = search_ours.contestant(corpus, server, place)
        console.print(f"{contestant.label}: {rebuilds} rebuilds beside {load.rate:.0f} appends/s", style="dim")
        contestant.answers()
        began = time.monotonic()
        search = [*contestant.searching, *timing(load.connections, _LONG_S, 0.5, searched)]
        searching = start([*search, "--keep-every", str(_KEPT)])
        time.sleep(idle_s)
        before = Memory.of(server.pid)
        beside = time.monotonic()
        inserting = start([*contestant.inserting(0), *pacing(load.rate, _LONG_S, appended), "--keep-every", "1"])
        done, probes = _rebuilt(server, place, corpus, rebuilds)
        inserting.terminate()
        writes = finish(inserting)
        alone = time.monotonic()
        time.sleep(idle_s)
        after = Memory.of(server.pid)
        searching.terminate()
        searches = finish(searching)
        samples, acknowledged = read_samples(searched), read_samples(appended)
        line = timeline(contestant.label, began, samples, acknowledged, _marks(began, beside, alone, done))
        checked, wrong = _check(corpus, searched, appended)
    return Ours(
        timeline=line,
        rebuilds=done,
        searches=Spans.of(samples, done),
        appends=Spans.of(acknowledged, done),
        before=before,
        after=after,
        appended=len(acknowledged),
        checked=checked,
        probes=probes.done,
        wrong=wrong + probes.wrong,
        refused=searches.refused + writes.refused,
    )


def _marks(began: float, beside: float, alone: float, done: list[Rebuild]) -> dict[str, float]:
    """Return the moments in seconds from the start."""
    marks = {"beside": beside - began, "alone": alone - began}
    for number, rebuild in enumerate(done, start=1):
        marks[f"rebuild {number}"] = rebuild.began - began
        marks[f"switch {number}"] = rebuild.switched - began
    return marks


def _rebuilt(server: Server, place: Path, corpus: Corpus, rebuilds: int) -> tuple[list[Rebuild], Probes]:
    """Rebuild so many times, with the prober beside, and with some time before and after each."""
    probes, stopped, done = Probes(), threading.Event(), []
    prober = threading.Thread(target=probes.run, args=(server.url, corpus.probes, stopped))
    prober.start()
    try:
        time.sleep(BESIDE_S)
        for _ in range(rebuilds):
            done.append(_rebuild(server, place))
            time.sleep(BESIDE_S)
    finally:
        stopped.set()
        prober.join()
    return done, probes


def _rebuild(server: Server, place: Path) -> Rebuild:
    """Export, build and wait for the switch, as the service does by itself; raises TimeoutError."""
    began = time.monotonic()
    list(post(server.url, "/v1/admin/export", [b""], "application/json"))
    generation = search_ours.served(place).generation + 1
    command = [
        *_NICELY, sys.executable, "-m", "buffer_service.cli", "rebuild", "--threads", "1",
        "--export", str(place / names.EXPORT_FOLDER), "--indexes", str(place / names.INDEXES_FOLDER),
        "--pointer-dir", str(place / names.POINTER_FOLDER), "--generation", str(generation),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the rebuild failed: {errors[-500:].decode()}")
    built = time.monotonic()
    with closing(Caller(server.url)) as caller:
        while _status(caller).generation < generation:
            if time.monotonic() > built + _SWITCH_TIMEOUT_S:
                raise TimeoutError(f"{generation_name(generation)} is not served: {_status(caller)}")
            time.sleep(_POLL_INTERVAL_S)
    return Rebuild(began, built, time.monotonic(), usage.ru_utime + usage.ru_stime)


def _status(caller: Caller) -> ServiceStatus:
    return msgspec.json.decode(caller.call("GET", "/v1/status", content_type=JSON), type=ServiceStatus)


def _check(corpus: Corpus, searched: Path, appended: Path) -> tuple[int, list[str]]:
    """Return how many answers were kept, and what is wrong with them."""
    rows = _appended_rows(corpus, appended)
    kept = msgspec.msgpack.decode(searched.with_suffix(".kept").read_bytes(), type=list[tuple[int, bytes]])
    wrong = []
    for number, answer in kept:
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            wrong.append(f"query {number}: {head.splitlines()[0]!r}")
            continue
        ids = np.frombuffer(body, "<i8", K)
        scores = np.frombuffer(body, "<f4", K, 8 * K)
        if fault := _fault(corpus, corpus.load[number], ids, scores, rows):
            wrong.append(f"query {number}: {fault}")
    return len(kept), wrong


def _fault(corpus: Corpus, query: Vectors, ids: Ids, scores: Vectors, rows: dict[int, int]) -> str:
    if len(set(ids.tolist())) != K or ids.min() < 1:
        return f"not ten different rows: {ids.tolist()}"
    if np.any(np.diff(scores) > 0):
        return "not the best first"
    known = len(corpus.vectors)
    for experience, score in zip(ids.tolist(), scores.tolist(), strict=True):
        if experience > known and experience not in rows:
            continue  # the prober's
        vector = corpus.vectors[experience - 1] if experience <= known else corpus.later[rows[experience]]
        if abs(float(vector @ query) - score) > _TOLERANCE:
            return f"{experience} has score {score}, its vector says {float(vector @ query)}"
    return ""


def _appended_rows(corpus: Corpus, appended: Path) -> dict[int, int]:
    """Return which of the later rows each appended experience is."""
    kept = msgspec.msgpack.decode(appended.with_suffix(".kept").read_bytes(), type=list[tuple[int, bytes]])
    rows = {}
    for number, answer in kept:
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 201 "):
            (experience,) = msgspec.msgpack.decode(body)["ids"]
            rows[experience] = number % len(corpus.later)
    return rows

"""The blocking client: one connection pool, safe for use from several threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import httpx
import numpy.typing as npt

from buffer_client import calls
from buffer_client.calls import Encoded
from buffer_client.endpoint import Endpoint, as_list, begin_again, failure_of, headers_of, response_of, whole_file
from buffer_client.errors import ClientError
from buffer_client.models import (
    AppendResult,
    Experience,
    ExperiencePage,
    ExportFormat,
    ExportResult,
    Include,
    Mode,
    Rank,
    SampleBatch,
    SearchResult,
    StoredExperience,
    UpdateStatus,
    Vector,
    WeightNorm,
)
from buffer_client.retry import Answer, RetryPolicy, Send, Step
from buffer_client.stream import CHUNK_BYTES, CHUNK_ROWS, AppendStream
from buffer_client.wire import Call, Response
from buffer_service.contract.pointer import Pointer
from buffer_service.contract.status import ServiceStatus

T = TypeVar("T")


class BufferClient:
    """A buffer service, reached over HTTP.

    ``url`` is the root of the service, ``timeout_s`` bounds one attempt, ``deadline_s`` a call with all its attempts
    and waits. ``on_retry`` hears of each error that is retried. Every method raises errors of the tree in
    ``buffer_client.errors``.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        deadline_s: float = 30.0,
        retries: int = 5,
        on_retry: Callable[[ClientError], None] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        policy = RetryPolicy(timeout_s=timeout_s, deadline_s=deadline_s, retries=retries)
        self._endpoint = Endpoint(url, token, policy, on_retry)
        self._http = httpx.Client(transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; the client cannot be used afterwards."""
        self._http.close()

    @property
    def sequence(self) -> int:
        """Highest sequence acknowledged to this client: what its searches ask to see."""
        return self._endpoint.sequence

    def append(self, experiences: Experience | Sequence[Experience]) -> AppendResult:
        """Append one experience or many, in one commit: when this returns, all are durable, on an error none is."""
        return self.append_encoded([calls.encode(item) for item in as_list(experiences)])

    def append_encoded(self, encoded: Sequence[Encoded]) -> AppendResult:
        """Append what ``calls.encode`` made earlier, as ``append`` does."""
        result = self._run(calls.append(encoded))
        self._endpoint.acknowledge(result.sequence)
        return result

    def append_stream(
        self,
        experiences: Iterable[Experience],
        *,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> AppendResult:
        """Append any number of experiences, one request after the other, each of at most this many rows and bytes.

        Memory holds one chunk and all ids. When this returns, all are durable; raises IncompleteStreamError, which
        says which ones are, when a chunk or the iterable itself fails.
        """
        stream = AppendStream(chunk_rows, chunk_bytes)
        try:
            for experience in experiences:
                if chunk := stream.add(experience):
                    stream.acknowledge(self.append_encoded(chunk))
            if chunk := stream.rest():
                stream.acknowledge(self.append_encoded(chunk))
        except Exception as error:
            raise stream.incomplete(error) from error
        return stream.result()

    def search(
        self,
        vectors: Vector | None = None,
        *,
        visual: Vector | None = None,
        text: Vector | None = None,
        k: int = 10,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's name
        rank: Rank | None = None,
        include: Include = (),
        min_sequence: int | None = None,
    ) -> SearchResult:
        """Find the ``k`` nearest to each row of ``vectors``, or to one query of ``visual`` and ``text`` fused.

        Sees at least all that this client was acknowledged, or what ``min_sequence`` says (0 asks for nothing).
        ``filter`` says what values of an experience must be, as docs/http.md describes; ``rank`` orders the nearest
        by what has helped and is fresh, too.
        """
        call = calls.search(
            vectors,
            visual=visual,
            text=text,
            k=k,
            where=filter,
            rank=rank,
            include=include,
            min_sequence=self._endpoint.min_sequence(min_sequence),
        )
        return self._run(call)

    def get(self, experience: int) -> StoredExperience:
        """Return one experience with its vector; raises UnknownExperienceError or EvictedExperienceError."""
        return self._run(calls.get(experience))

    def remove(self, experience: int) -> None:
        """Remove one experience, durably; raises UnknownExperienceError or EvictedExperienceError."""
        self._endpoint.acknowledge(self._run(calls.remove(experience)))

    def page(self, cursor: int = 0, limit: int = 100, include: Include = ()) -> ExperiencePage:
        """Return up to ``limit`` experiences in FIFO order, those with ids from ``cursor`` on."""
        return self._run(calls.page(cursor, limit, include))

    def experiences(self, cursor: int = 0, limit: int = 100, include: Include = ()) -> Iterator[StoredExperience]:
        """Walk through the experiences with ids from ``cursor`` on in FIFO order, ``limit`` to a request.

        What is appended during the walk is met at its end.
        """
        following: int | None = cursor
        while following is not None:
            page = self.page(following, limit, include)
            yield from page.experiences
            following = page.next_cursor

    def sample(
        self,
        size: int,
        *,
        beta: float | None = None,
        unique: bool = False,
        mode: Mode | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's name
        weight_norm: WeightNorm | None = None,
        include: Include = (),
    ) -> SampleBatch:
        """Draw ``size`` experiences, by priority unless ``mode`` says otherwise, of those that pass ``filter``.

        ``beta`` is the exponent of the importance weights, ``weight_norm`` what they are divided by.
        """
        call = calls.sample(
            size, beta=beta, unique=unique, mode=mode, where=filter, weight_norm=weight_norm, include=include
        )
        return self._run(call)

    def update_priorities(
        self, ids: npt.ArrayLike, priorities: npt.ArrayLike, sequences: npt.ArrayLike | None = None
    ) -> list[UpdateStatus]:
        """Set priorities, durably; with ``sequences``, those of the sample, only where nothing newer was set.

        Not repeated after OutcomeUnknownError, because the repetition would be told ``stale`` by its own first attempt.
        """
        return self._run(calls.update_priorities(ids, priorities, sequences))

    def report_outcomes(
        self, ids: npt.ArrayLike, successes: npt.ArrayLike, request_id: str | None = None
    ) -> list[UpdateStatus]:
        """Count for each id whether it helped, durably and once per ``request_id``, which is generated where absent."""
        return self._run(calls.report_outcomes(ids, successes, request_id))

    def status(self) -> ServiceStatus:
        """Return the state of the service."""
        return self._run(calls.status())

    def export(self, path: Path | str, format: ExportFormat = "parquet") -> int:  # noqa: A002 - the contract's name
        """Write all that is live at one sequence number, which is returned, into a file for pandas, Polars or DuckDB.

        The file gets its name when it is whole. Raises NotInstalledError where the service lacks pyarrow, OSError.
        """
        with whole_file(Path(path)) as file:
            return self._run(calls.export(format), partial(self._download, file))

    def write_export(self) -> ExportResult:
        """Write what changed since the last export for the next rebuild; needs the scope admin."""
        return self._run(calls.write_export())

    def rollback(self, generation: int | None = None) -> Pointer:
        """Point back to an older generation that is still kept, by default the one before; needs the scope admin.

        Raises ConflictError where there is none, or where an operator moves the pointer.
        """
        return self._run(calls.rollback(generation))

    def _run(self, call: Call[T], perform: Callable[[Send], Answer] | None = None) -> T:
        steps = self._endpoint.steps(call)
        answer: Answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            answer = self._perform(step, perform or self._exchange)

    def _perform(self, step: Step, perform: Callable[[Send], Answer]) -> Answer:
        if not isinstance(step, Send):
            time.sleep(step.seconds)
            return None
        try:
            return perform(step)
        except httpx.TransportError as error:
            return failure_of(error)

    def _exchange(self, step: Send) -> Answer:
        return response_of(self._http.send(self._endpoint.request(step)))

    def _download(self, file: BinaryIO, step: Send) -> Answer:
        """Write the body of a good answer into the file, from its beginning."""
        response = self._http.send(self._endpoint.request(step), stream=True)
        with closing(response):
            if response.is_success:
                begin_again(file)
                file.writelines(response.iter_bytes())
                return Response(response.status_code, headers_of(response), b"")
            response.read()
            return response_of(response)

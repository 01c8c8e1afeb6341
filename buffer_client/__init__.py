"""The client of the experience buffer: typed, numpy in and out, the same over asyncio.

``BufferClient`` and ``AsyncBufferClient`` are two thin drivers of one core that does no input or output: ``calls``
builds requests, ``answers`` reads responses, ``retry`` decides what is sent again. Errors form the tree in
``errors``.
"""

from buffer_client.aio import AsyncBufferClient
from buffer_client.client import BufferClient
from buffer_client.errors import ClientError, OutcomeUnknownError, RejectedError, RetryLaterError, ServerFaultError
from buffer_client.models import (
    AppendResult,
    Experience,
    ExperiencePage,
    ExportResult,
    SampleBatch,
    SearchResult,
    StoredExperience,
    UpdateStatus,
)
from buffer_client.vote import Vote, vote

__all__ = [
    "AppendResult",
    "AsyncBufferClient",
    "BufferClient",
    "ClientError",
    "Experience",
    "ExperiencePage",
    "ExportResult",
    "OutcomeUnknownError",
    "RejectedError",
    "RetryLaterError",
    "SampleBatch",
    "SearchResult",
    "ServerFaultError",
    "StoredExperience",
    "UpdateStatus",
    "Vote",
    "vote",
]

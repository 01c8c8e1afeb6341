"""The client of the experience buffer: typed, numpy in and out, the same over asyncio.

``BufferClient`` and ``AsyncBufferClient`` are two thin drivers of one core that does no input or output: ``calls``
builds requests, ``answers`` reads responses, ``retry`` decides what is sent again. Errors form the tree in
``errors``. On top of them: appending in the background, batches drawn ahead, votes, and ``buffer_client.torch``.
"""

from buffer_client.aio import AsyncBufferClient
from buffer_client.background import BackgroundAppender
from buffer_client.background_aio import AsyncBackgroundAppender
from buffer_client.client import BufferClient
from buffer_client.errors import (
    ClientError,
    IncompleteAppendError,
    IncompleteStreamError,
    OutcomeUnknownError,
    RejectedError,
    RetryLaterError,
    ServerFaultError,
)
from buffer_client.models import (
    AppendResult,
    Experience,
    ExperiencePage,
    ExportResult,
    Include,
    Rank,
    RankParts,
    SampleBatch,
    SearchResult,
    StoredExperience,
    UpdateStatus,
)
from buffer_client.samples import LinearBeta, SampleStream
from buffer_client.vote import Vote, inverse_distance, similarity, softmax, vote, votes

__all__ = [
    "AppendResult",
    "AsyncBackgroundAppender",
    "AsyncBufferClient",
    "BackgroundAppender",
    "BufferClient",
    "ClientError",
    "Experience",
    "ExperiencePage",
    "ExportResult",
    "Include",
    "IncompleteAppendError",
    "IncompleteStreamError",
    "LinearBeta",
    "OutcomeUnknownError",
    "Rank",
    "RankParts",
    "RejectedError",
    "RetryLaterError",
    "SampleBatch",
    "SampleStream",
    "SearchResult",
    "ServerFaultError",
    "StoredExperience",
    "UpdateStatus",
    "Vote",
    "inverse_distance",
    "similarity",
    "softmax",
    "vote",
    "votes",
]

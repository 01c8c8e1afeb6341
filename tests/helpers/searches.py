"""Searches that are put to a dispatcher."""

from __future__ import annotations

import asyncio

import numpy as np

from buffer_service.core.dispatcher import Dispatcher, Search
from buffer_service.index.main import TUNED, Effort
from buffer_service.index.view import Found

WAITING_MAX = 100
"""How many may wait in the tests of the dispatcher."""


def put(
    dispatcher: Dispatcher, number: int, rows: int = 1, k: int = 2, effort: Effort = TUNED
) -> asyncio.Future[Found]:
    """Put a search of equal rows, and return its answer to come."""
    future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
    dispatcher.put(Search(np.full((rows, 1), number, np.float32), k, effort, future))
    return future

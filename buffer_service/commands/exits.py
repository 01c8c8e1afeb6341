"""Exit codes of ``xbuf``, see ``cli``, and which of them an error leads to."""

from __future__ import annotations

import os
import sys

from buffer_service.contract.names import EXIT_UNUSABLE_INPUT as UNUSABLE_INPUT
from buffer_service.errors import ExperienceBufferError, StoreLockedError

WRONG_USE, CANNOT_START, TRY_AGAIN = 2, os.EX_UNAVAILABLE, os.EX_TEMPFAIL

__all__ = ["CANNOT_START", "TRY_AGAIN", "UNUSABLE_INPUT", "WRONG_USE", "failed"]


def failed(command: str, error: ExperienceBufferError | OSError, addition: str = "") -> int:
    """Say what went wrong on a folder and return the exit code for it."""
    sys.stderr.write(f"xbuf {command}: {error}{addition}\n")
    if isinstance(error, StoreLockedError):
        return CANNOT_START
    return UNUSABLE_INPUT if isinstance(error, ExperienceBufferError) else TRY_AGAIN

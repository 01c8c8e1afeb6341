"""``xbuf restore``: makes a new data folder from a backup."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from buffer_service.commands.exits import CANNOT_START, TRY_AGAIN, UNUSABLE_INPUT
from buffer_service.core.restoring import restore
from buffer_service.errors import ExperienceBufferError, StoreLockedError


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        if given.file == "-":
            restored = restore(sys.stdin.buffer, given.data, given.sequence)
        else:
            with Path(given.file).open("rb") as archive:
                restored = restore(archive, given.data, given.sequence)
    except StoreLockedError as error:
        sys.stderr.write(f"xbuf restore: {error}\n")
        return CANNOT_START
    except ExperienceBufferError as error:
        sys.stderr.write(f"xbuf restore: {error}\n")
        return UNUSABLE_INPUT
    except OSError as error:
        sys.stderr.write(f"xbuf restore: {error}; nothing was made\n")
        return TRY_AGAIN
    sys.stdout.write(f"{given.data}: sequence {restored.sequence}, {restored.count} experiences\n")
    return 0

"""``xbuf repair``: does what loses nothing, and says what it did and gave up."""

from __future__ import annotations

import argparse
import sys

from buffer_service.commands.exits import CANNOT_START, TRY_AGAIN, UNUSABLE_INPUT
from buffer_service.core.repairing import repair
from buffer_service.errors import ExperienceBufferError, StoreLockedError


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        done = repair(given.folder)
    except StoreLockedError as error:
        sys.stderr.write(f"xbuf repair: {error}\n")
        return CANNOT_START
    except ExperienceBufferError as error:
        sys.stderr.write(f"xbuf repair: {error}\n")
        return UNUSABLE_INPUT
    except OSError as error:
        sys.stderr.write(f"xbuf repair: {error}\n")
        return TRY_AGAIN
    for sentence in done:
        sys.stdout.write(f"{sentence}\n")
    sys.stdout.write(f"{given.folder}: {f'{len(done)} repairs, ' if done else 'nothing to repair, '}sound\n")
    return 0

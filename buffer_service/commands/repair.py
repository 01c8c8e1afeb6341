"""``xbuf repair``: does what loses nothing, and says what it did and gave up."""

from __future__ import annotations

import argparse
import sys

from buffer_service.commands.exits import failed
from buffer_service.core.repairing import repair
from buffer_service.errors import ExperienceBufferError


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        done = repair(given.folder)
    except (ExperienceBufferError, OSError) as error:
        return failed("repair", error)
    for sentence in done:
        sys.stdout.write(f"{sentence}\n")
    sys.stdout.write(f"{given.folder}: {f'{len(done)} repairs, ' if done else 'nothing to repair, '}sound\n")
    return 0

"""Why an index could not be built or taken into service.

IndexFailure
├── RefusedGenerationError   the generation must not be served; the one in service stays
├── PointerConflictError     read the pointer again and decide anew
└── UnusableExportError      the rebuild cannot succeed with this input; a retry would fail again
    └── RecallBelowFloorError
"""

from __future__ import annotations


class IndexFailure(Exception):  # noqa: N818 - the base of two kinds that callers treat apart
    """Base of what goes wrong with an index."""


class RefusedGenerationError(IndexFailure):
    """The generation is missing, damaged, of another shape, too large or fails its canaries."""


class UnusableExportError(IndexFailure):
    """The export is missing, damaged or empty."""


class RecallBelowFloorError(UnusableExportError):
    """The index that was built finds too few of the true neighbours; it was not published."""


class PointerConflictError(IndexFailure):
    """The pointer was moved by someone else meanwhile."""

"""Every error of the operator, ordered by what the caller does next.

OperatorError
├── RetryError            come back later, with back-off
│   ├── UnavailableError  the API server or a pod did not answer, or asked for patience
│   ├── ChangedError      the world moved between reading and writing: observe again
│   ├── NotLeadingError   this process may not write: perhaps another one acts
│   ├── WaitingForTurnError as many rebuilds run as may over all buffers
│   ├── ExportFailedError the pod could not export, so there is nothing to rebuild from
│   └── VisitFailedError  a visit was cut short; what is known about it is in the status
└── RefusedError          the API server understood and refused: a person has to change something
    └── GrowthRefusedError  the volume cannot grow; nothing else waits for it
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of what can go wrong while reconciling. ``str(error)`` is a sentence for a condition.

    ``after_s``: the other side has asked not to be bothered again for so many seconds.
    """

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class RetryError(OperatorError):
    """Nothing is wrong with what was asked; the same may succeed later."""


class UnavailableError(RetryError):
    """The other side did not answer in time, failed, or is overloaded."""


class ChangedError(RetryError):
    """What was read is no longer what is there."""


class NotLeadingError(RetryError):
    """The write was not sent, as this process may not be the one that acts."""


class WaitingForTurnError(RetryError):
    """The rebuild waits until others have ended; nothing is wrong."""


class ExportFailedError(RetryError):
    """The pod could not export, or there is no experience to build an index from."""


class VisitFailedError(RetryError):
    """The visit of a buffer was cut short."""


class RefusedError(OperatorError):
    """Validation, admission, quota or permissions refuse this; repeating it changes nothing."""


class GrowthRefusedError(RefusedError):
    """The volume cannot have the size that was asked for. ``str(error)`` is the API server's sentence."""

    def __init__(self, size: str, message: str) -> None:
        super().__init__(message)
        self.size = size

"""Exit codes of ``xbuf``, see ``cli``."""

from __future__ import annotations

import os

WRONG_USE, UNUSABLE_INPUT, CANNOT_START, TRY_AGAIN = 2, os.EX_DATAERR, os.EX_UNAVAILABLE, os.EX_TEMPFAIL

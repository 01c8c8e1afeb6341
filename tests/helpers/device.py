"""Where the tests of the search suite search: on the CPU, or by XBUF_TEST_DEVICE=gpu (make gpu-test) on a GPU."""

from __future__ import annotations

import os
from typing import Final, Literal, cast

DEVICE: Final = cast("Literal['cpu', 'gpu']", os.environ.get("XBUF_TEST_DEVICE", "cpu"))

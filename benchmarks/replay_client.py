"""The product's client as a contestant of the replay benchmark, over HTTP to services that run already.

Run: python -m benchmarks.replay_client ids | vectors | experiences SIZE=URL ...
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.peers.replay_loop import BATCH, BETA, Slice, serve
from buffer_client import BufferClient, Include

_VECTORS: Include = ("vector",)
_EXPERIENCES: Include = ("experience",)
_INCLUDES: dict[str, Include] = {"ids": (), "vectors": _VECTORS, "experiences": _EXPERIENCES}


def _sampling(url: str, include: Include) -> Slice:
    client = BufferClient(url)

    def begin() -> Callable[[], object]:
        return lambda: client.sample(BATCH, beta=BETA, include=include)

    return begin


def main() -> None:
    """Answer commands."""
    include, *places = sys.argv[1:]
    timed = {}
    for size, _, url in (place.partition("=") for place in places):
        timed[f"sample {size}"] = _sampling(url, _INCLUDES[include])
    serve(f"ours, {include}", timed)


if __name__ == "__main__":
    main()

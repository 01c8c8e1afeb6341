"""The vector index: immutable generations (main), what came after them (delta), what left since (tombstones).

Nothing here knows of records; a row is an id and a vector. Only this layer imports FAISS.
"""

import os

SPINS = 10_000
"""Rounds, about a tenth of a millisecond, that a thread of FAISS waits for more work before it gives up its core.

OpenMP's own 300,000 keep cores from the event loop and from other processes long after a call has ended. It reads this
when it is loaded, so it is said before anything here imports FAISS; who sets it in the environment is not overruled.
"""
os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))

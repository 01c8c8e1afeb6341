"""A process that commits and prints what becomes of it: ``storage_killed.py BACKEND FOLDER SEED COMMITS``.

The operations follow from the seed alone, so whoever reads the output knows what the store must hold.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from random import Random

from buffer_service.errors import OutcomeUnknownError, StorageFullError
from buffer_service.storage.base import Store
from tests.helpers.storage_model import Model, model_of, random_operations
from tests.helpers.storage_open import commit_random, opened

ACKNOWLEDGED = "acknowledged"
FULL = "full"
UNKNOWN = "unknown"


def replay(seed: int, lines: Iterable[str]) -> tuple[Model, Model]:
    """Return the state that was acknowledged, and the one that is in doubt, of a process that printed these lines."""
    random, model = Random(seed), Model()
    for line in lines:
        if line == UNKNOWN:
            break
        after = _next(random, model)
        model = after if line == ACKNOWLEDGED else model
    return model, _next(random, model)


def _next(random: Random, model: Model) -> Model:
    after = model.copy()
    for operation in random_operations(random, model, 4):
        after.apply(operation)
    return after


def _commit(store: Store, seed: int, commits: int) -> None:
    random, model = Random(seed), Model()
    for _ in range(commits):
        try:
            model = commit_random(store, model, random)
            outcome = ACKNOWLEDGED
        except StorageFullError:
            outcome = FULL
        except OutcomeUnknownError:
            outcome = UNKNOWN
        sys.stdout.write(f"{outcome}\n")
        sys.stdout.flush()
        assert model_of(store) == model, "reads go on, and show nothing that was not acknowledged"
        if outcome == UNKNOWN:
            _require_latched(store, model, random)
            return


def _require_latched(store: Store, model: Model, random: Random) -> None:
    try:
        commit_random(store, model, random)
    except OutcomeUnknownError:
        return
    raise AssertionError("a commit was taken after a failed one")


def main() -> None:
    """Commit until all is done, killed or in doubt."""
    backend, folder, seed, commits = sys.argv[1:]
    with opened(backend, Path(folder)) as store:
        _commit(store, int(seed), int(commits))


if __name__ == "__main__":
    main()

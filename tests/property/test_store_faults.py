"""A fault at every operation of the disk, once or from then on, along random histories of the file store."""

from __future__ import annotations

import errno
import os

import pytest

from buffer_service.errors import OutcomeUnknownError, StorageFullError
from buffer_service.storage.fs import FULL_ERRNOS
from tests.helpers.simulated_fs import SimulatedFileSystem
from tests.helpers.storage_model import group_of, model_of, random_operations
from tests.helpers.storage_simulation import History

HISTORIES = int(os.environ.get("XBUF_TEST_HISTORIES", "32")) // 16
COMMITS = 16


def run_with_fault(seed: int, fault_step: int, code: int, *, lasting: bool) -> None:
    """Commit until the end or until writes are latched; then check what a kill and a power loss leave."""
    system = SimulatedFileSystem(seed)
    history = History(seed, system)

    def fail(step: int, _kind: str, _path: object) -> int | None:
        return code if step == fault_step or (lasting and step > fault_step) else None

    system.fail = fail
    latched = False
    for _ in range(COMMITS):
        try:
            history.commit()
        except StorageFullError:
            assert code in FULL_ERRNOS
        except OutcomeUnknownError:
            latched = True
            break
    assert model_of(history.store) == history.acknowledged, "reads go on, and show nothing that was not acknowledged"
    system.fail = lambda _step, _kind, _path: None
    group = group_of(history.store, random_operations(history.random, history.acknowledged, 2))
    if latched:
        with pytest.raises(OutcomeUnknownError):
            history.store.commit(group)
    else:
        history.commit()
    history.check_power_loss(8 * seed)
    history.check_recovery_of(system)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
def test_a_fault_of_any_operation_loses_nothing_acknowledged(code: int, *, lasting: bool) -> None:
    """Full means refused and usable again, any other fault in doubt and no more writes; reads go on in both cases."""
    for seed in range(HISTORIES):
        system = SimulatedFileSystem(seed)
        history = History(seed, system)
        first = system.steps + 1
        for _ in range(COMMITS):
            history.commit()
        for step in range(first, system.steps + 1):
            run_with_fault(seed, step, code, lasting=lasting)

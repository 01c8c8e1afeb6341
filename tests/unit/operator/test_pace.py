"""How often a buffer is looked at."""

from __future__ import annotations

import random
from itertools import pairwise

from buffer_operator.pace import Pace
from buffer_operator.queue import Key

A, B = Key("ns", "a"), Key("ns", "b")


def test_pauses_grow_while_nothing_happens_and_shrink_at_once() -> None:
    """Up to the longest, with at most a tenth taken away by chance; each buffer by itself."""
    pace = Pace(3.0, 15.0, 300.0, random.Random(7))
    pauses = [pace.quiet(A) for _ in range(8)]
    for number, pause in enumerate(pauses):
        whole = min(15.0, 3.0 * 1.5 ** (number + 1))
        assert 0.9 * whole <= pause <= whole
    assert pace.quiet(B) <= 4.5
    assert pace.busy(A) <= 3.0
    assert pace.quiet(A) <= 4.5


def test_the_api_server_is_asked_first_and_then_from_time_to_time() -> None:
    """A glance does not do for ever, and never for a buffer that was not seen yet or is new under its name."""
    pace = Pace(3.0, 15.0, 300.0, random.Random(7))
    assert not pace.glance_will_do(A, 1000.0)
    pace.asked(A, 1000.0)
    assert pace.glance_will_do(A, 1149.0)
    assert not pace.glance_will_do(A, 1300.0)
    pace.asked(A, 1300.0)
    pace.forget(A)
    assert not pace.glance_will_do(A, 1301.0)


def test_buffers_that_were_asked_about_together_do_not_stay_together() -> None:
    """Otherwise all of them would ask the API server in the same few seconds, again and again."""
    pace = Pace(3.0, 15.0, 300.0, random.Random(7))
    keys = [Key("ns", str(number)) for number in range(300)]
    for key in keys:
        pace.asked(key, 0.0)
    due = [sum(not pace.glance_will_do(key, float(second)) for key in keys) for second in range(0, 301, 30)]
    assert due[0] == due[4] == 0
    assert max(later - earlier for earlier, later in pairwise(due)) < 90
    assert due[-1] == 300

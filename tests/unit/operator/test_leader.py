"""The election: candidates on clocks of their own, one Lease, and an API server that may be gone or answer too late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from buffer_operator.errors import NotLeadingError, OperatorError, UnavailableError
from buffer_operator.kube.kinds import LEASE, Json, Kind
from buffer_operator.leader import LeaseLeadership, Timing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator.model_api import NAMESPACE, ModelApi

TIMING = Timing(15.0, 10.0, 2.0)


@dataclass
class Candidate:
    """One operator process; its clock started whenever, and it may be stopped for a while."""

    api: LeaseApi
    name: str
    offset_s: float = 0.0
    leadership: LeaseLeadership = field(init=False)
    leads: bool = False

    def __post_init__(self) -> None:
        clock = lambda: self.api.now + self.offset_s  # noqa: E731
        self.leadership = LeaseLeadership(self.api, NAMESPACE, "operator", self.name, TIMING, clock)

    async def turn(self) -> None:
        """Do what the process does every two seconds."""
        step = self.leadership._try_to_renew if self.leads else self.leadership._try_to_take
        done = await self.leadership._attempt(step)
        self.leads = done if done is not None else self.leads

    def may_write(self) -> bool:
        """Whether a write would be sent now."""
        try:
            self.leadership.check()
        except NotLeadingError:
            return False
        return True


class LeaseApi(ModelApi):
    """An API server that can be gone, or do what it is asked and then not answer."""

    gone = False
    answers_get_lost = False

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """See Cluster."""
        if self.gone:
            raise UnavailableError("gone")
        return await super().get(kind, namespace, name)

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> None:
        """See Cluster."""
        await super().patch(kind, namespace, name, patch)
        if self.answers_get_lost:
            raise UnavailableError("no answer")

    def lease(self) -> Json:
        """Return the spec of the Lease."""
        spec: Json = self.objects[LEASE, "operator"]["spec"]
        return spec


async def _pass(api: LeaseApi, seconds: float, *awake: Candidate) -> None:
    """Let time pass in steps of two seconds, in each of which every candidate that is awake has its turn."""
    for _ in range(round(seconds / 2)):
        api.now += 2
        for candidate in awake:
            await candidate.turn()


async def test_the_first_leads_and_the_second_stands_by() -> None:
    """And the Lease says so to people."""
    api = LeaseApi()
    a, b = Candidate(api, "a"), Candidate(api, "b", offset_s=1e6)
    await _pass(api, 60, a, b)
    assert (a.may_write(), b.may_write()) == (True, False)
    assert (api.lease()["holderIdentity"], api.lease()["leaseTransitions"]) == ("a", 1)
    assert datetime.fromisoformat(api.lease()["renewTime"]).tzinfo is not None


async def test_one_that_stops_may_not_write_before_another_acts_nor_when_it_goes_on() -> None:
    """At ten seconds it may no longer, at fifteen another may; awake again it finds its term over."""
    api = LeaseApi()
    a, b = Candidate(api, "a"), Candidate(api, "b")
    await _pass(api, 10, a, b)
    await _pass(api, 8, b)
    assert (a.may_write(), b.may_write()) == (True, False)
    await _pass(api, 2, b)
    assert (a.may_write(), b.may_write()) == (False, False)
    await _pass(api, 6, b)
    assert (a.may_write(), b.may_write()) == (False, True)
    await a.turn()
    assert (a.may_write(), a.leads) == (False, False)
    assert api.lease()["leaseTransitions"] == 2


async def test_an_api_server_that_was_gone_for_minutes_finds_the_same_leader() -> None:
    """It writes nothing meanwhile, and goes on in the same term when nobody else has acted."""
    api = LeaseApi()
    a = Candidate(api, "a")
    await _pass(api, 10, a)
    api.gone = True
    await _pass(api, 300, a)
    assert not a.may_write()
    assert a.leads
    api.gone = False
    await _pass(api, 2, a)
    assert a.may_write()
    assert api.lease()["leaseTransitions"] == 1


async def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    """The one that gave it up may write nothing more."""
    api = LeaseApi()
    a, b = Candidate(api, "a"), Candidate(api, "b")
    await _pass(api, 4, a, b)
    await a.leadership.release()
    await _pass(api, 2, b)
    assert (a.may_write(), b.may_write()) == (False, True)


async def test_releasing_takes_nothing_from_another() -> None:
    """Also where the API server is gone."""
    api = LeaseApi()
    a, b = Candidate(api, "a"), Candidate(api, "b")
    await _pass(api, 4, a, b)
    await b.leadership.release()
    assert api.lease()["holderIdentity"] == "a"
    api.gone = True
    await a.leadership.release()
    assert api.lease()["holderIdentity"] == "a"


async def test_a_lease_whose_answer_got_lost_is_ours_all_the_same() -> None:
    """It is not waited for until it runs out."""
    api = LeaseApi()
    a, b = Candidate(api, "a"), Candidate(api, "b")
    await _pass(api, 2, a)
    await a.leadership.release()
    api.answers_get_lost = True
    await _pass(api, 2, b)
    assert not b.may_write()
    api.answers_get_lost = False
    await _pass(api, 2, b)
    assert b.may_write()


async def test_a_deleted_lease_ends_the_term() -> None:
    """Whoever deleted it may have given it to another; the process starts anew."""
    api = LeaseApi()
    a = Candidate(api, "a")
    await _pass(api, 4, a)
    api.delete(LEASE, "operator")
    await _pass(api, 2, a)
    assert not a.leads
    with pytest.raises(KeyError):
        api.lease()


async def test_keep_ends_when_another_has_taken_over() -> None:
    """The end of ``keep`` is the end of the process."""
    api = LeaseApi()
    quick = Timing(15.0, 10.0, 0.01)
    leadership = LeaseLeadership(api, NAMESPACE, "operator", "a", quick, lambda: api.now)
    assert leadership.leads_for_s() is None
    await leadership.acquire()
    assert leadership.leads_for_s() == 0.0
    leadership.check()
    keeping = asyncio.create_task(leadership.keep())
    api.objects[LEASE, "operator"]["spec"] |= {"holderIdentity": "b", "leaseTransitions": 2}
    async with asyncio.timeout(5):
        await keeping
    with pytest.raises(NotLeadingError):
        leadership.check()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", "gone", "back", "lost", "heard", "time"]), st.integers(1, 9)))
)
def test_never_may_two_write(history: list[tuple[str, int]]) -> None:
    """Whatever stops whom for how long, and whatever answers get lost; nobody needs another's clock for it."""

    async def check() -> None:
        api = LeaseApi()
        candidates = {name: Candidate(api, name, offset_s=1e5 * number) for number, name in enumerate("abc")}
        for event, count in history:
            match event:
                case "gone" | "back":
                    api.gone = event == "gone"
                case "lost" | "heard":
                    api.answers_get_lost = event == "lost"
                case "time":
                    api.now += count
                case name:
                    try:
                        await _pass(api, 2 * count, candidates[name])
                    except OperatorError as error:
                        raise AssertionError("a turn never fails") from error
            assert sum(candidate.may_write() for candidate in candidates.values()) <= 1

    asyncio.run(check())

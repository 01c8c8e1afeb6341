"""The rate limit between draws and appends: never beyond the ratio by more than allowed, and never a deadlock."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer_service.core import Experience, ExperienceBuffer
from buffer_service.core.rate_limiter import RateLimiter
from buffer_service.errors import InvalidRequestError, RateLimitedError, TooFewExperiencesError
from buffer_service.settings import (
    BufferSettings,
    EmbeddingSettings,
    RebuildSettings,
    SamplingSettings,
    Settings,
    load_settings,
)
from buffer_service.storage.rows import Row
from buffer_service.storage.table import Table


def _append(table: Table, count: int) -> None:
    for _ in range(count):
        experience = table.header.next_id
        table.header.next_id += 1
        table.put(Row(experience, experience, 0.0, 0.5, None, b""))


def test_draws_wait_for_the_least_size() -> None:
    """Below it they are refused, and nothing is counted; from it on the error buffer is there to be drawn."""
    table = Table()
    limiter = RateLimiter(SamplingSettings(min_size=10, samples_per_insert=2.0, error_buffer=8.0), table)
    _append(table, 9)
    with pytest.raises(TooFewExperiencesError, match="there are 9 experiences; draws are taken from 10 on"):
        limiter.take(1)
    _append(table, 1)

    assert limiter.room() == 8.0


def test_draws_wait_for_appends() -> None:
    """Each append makes room for so many draws as the ratio says, beyond the error buffer."""
    table = Table()
    limiter = RateLimiter(SamplingSettings(min_size=10, samples_per_insert=2.0, error_buffer=8.0), table)
    _append(table, 10)
    limiter.take(8)
    with pytest.raises(RateLimitedError, match="1 draws would be too many"):
        limiter.take(1)
    _append(table, 3)

    limiter.take(6)
    with pytest.raises(RateLimitedError):
        limiter.take(1)


def test_draws_that_came_to_nothing_are_not_counted() -> None:
    """What was taken and given back can be taken again."""
    table = Table()
    limiter = RateLimiter(SamplingSettings(samples_per_insert=1.0, error_buffer=8.0), table)
    limiter.take(8)
    limiter.give_back(8)

    limiter.take(8)


def test_appends_wait_for_draws_only_if_they_are_told_to() -> None:
    """Without ``limit_inserts`` there is no end to appends; with it they go on as soon as enough is drawn."""
    free, bound = Table(), Table()
    unlimited = RateLimiter(SamplingSettings(samples_per_insert=4.0, error_buffer=8.0), free)
    limited = RateLimiter(SamplingSettings(samples_per_insert=4.0, error_buffer=8.0, limit_inserts=True), bound)
    for table in (free, bound):
        _append(table, 3)

    unlimited.require_room_for_append()
    with pytest.raises(RateLimitedError, match="appends are ahead of draws by 12 draws"):
        limited.require_room_for_append()
    limited.take(4)
    limited.require_room_for_append()


def test_appends_go_on_while_there_are_too_few_to_draw_from() -> None:
    """When removals leave fewer than the least size, draws wait for appends, so appends do not wait for draws."""
    table = Table()
    settings = SamplingSettings(min_size=10, samples_per_insert=4.0, error_buffer=8.0, limit_inserts=True)
    limiter = RateLimiter(settings, table)
    _append(table, 20)
    with pytest.raises(RateLimitedError):
        limiter.require_room_for_append()
    for experience in range(1, 12):
        table.drop(experience)
    with pytest.raises(TooFewExperiencesError):
        limiter.take(1)

    limiter.require_room_for_append()


@given(
    st.floats(0.1, 16.0),
    st.floats(1.0, 64.0),
    st.integers(0, 20),
    st.lists(st.tuples(st.booleans(), st.integers(1, 128)), max_size=60),
)
def test_both_sides_can_never_wait_at_once(
    per_insert: float, buffer: float, min_size: int, steps: list[tuple[bool, int]]
) -> None:
    """Whatever was done before, removals included, either an append or the wanted draw is let through."""
    settings = SamplingSettings(
        samples_per_insert=per_insert, error_buffer=max(buffer, per_insert), min_size=min_size, limit_inserts=True
    )
    table = Table()
    limiter = RateLimiter(settings, table)
    for draws, size in steps:
        drawn = _taken(limiter, size) if draws else False
        appended = not draws and _may_append(limiter)
        if appended:
            _append(table, size)
        elif draws and size > 2.0 * max(buffer, per_insert):
            assert not drawn
        elif not drawn:
            assert _may_append(limiter) if draws else _taken(limiter, 1)
        if size % 7 == 0 and len(table):
            table.drop(int(table.live_ids()[0]))


def _taken(limiter: RateLimiter, draws: int) -> bool:
    try:
        limiter.take(draws)
    except (RateLimitedError, TooFewExperiencesError, InvalidRequestError):
        return False
    return True


def _may_append(limiter: RateLimiter) -> bool:
    try:
        limiter.require_room_for_append()
    except RateLimitedError:
        return False
    return True


def test_a_batch_that_there_can_never_be_room_for_is_refused_for_good() -> None:
    """Where appends wait, too, nobody could make room for it: the message names the largest."""
    limiter = RateLimiter(SamplingSettings(samples_per_insert=1.0, error_buffer=8.0, limit_inserts=True), Table())

    with pytest.raises(InvalidRequestError, match="ask for 16"):
        limiter.take(17)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SAMPLES_PER_INSERT": "4"}, "belong together"),
        ({"ERROR_BUFFER": "4"}, "belong together"),
        ({"SAMPLES_PER_INSERT": "4", "ERROR_BUFFER": "3"}, "error_buffer is below 4"),
        ({"SAMPLES_PER_INSERT": "0.1", "ERROR_BUFFER": "0.5"}, "error_buffer is below 1"),
        ({"LIMIT_INSERTS": "true"}, "there is nothing to fall behind"),
        ({"MIN_SIZE": "100001"}, "there would never be enough to draw from"),
    ],
)
def test_settings_that_could_block_both_sides_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    """The message says why."""
    for name, value in variables.items():
        monkeypatch.setenv(f"XBUF_SAMPLING__{name}", value)

    with pytest.raises(ValueError, match=sentence):
        load_settings()


def _settings(**sampling: float | bool) -> Settings:
    return Settings(
        embedding=EmbeddingSettings(dimension=2),
        rebuild=RebuildSettings(mode="off"),
        buffer=BufferSettings(capacity=5),
        sampling=SamplingSettings.model_validate(sampling),
    )


def _experiences(count: int) -> list[Experience]:
    return [Experience(confidence=0.5, visual=[1.0, 0.0]) for _ in range(count)]


def test_the_limit_survives_a_restart(tmp_path: Path) -> None:
    """A start counts as balanced: neither more nor less than the error buffer can be drawn, evictions or not."""
    settings = _settings(samples_per_insert=2.0, error_buffer=6.0, min_size=2)
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        buffer.append(_experiences(10))
        assert len(buffer.sample(22).ids) == 22
        with pytest.raises(RateLimitedError):
            buffer.sample(1)
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        with pytest.raises(RateLimitedError):
            buffer.sample(7)
        assert len(buffer.sample(6).ids) == 6
        buffer.append(_experiences(1))
        assert len(buffer.sample(2).ids) == 2


def test_draws_that_find_nothing_or_are_refused_use_nothing_up(tmp_path: Path) -> None:
    """A filter that nothing passes, and too many unique draws, leave the room as it was."""
    with ExperienceBuffer.open(tmp_path, _settings(samples_per_insert=1.0, error_buffer=8.0)) as buffer:
        buffer.append(_experiences(2))
        before = buffer.draws.limiter.room()
        buffer.sample(8, wanted={"answer": "nobody's"})
        with pytest.raises(InvalidRequestError):
            buffer.sample(3, unique=True)

        assert buffer.draws.limiter.room() == before


def test_appends_are_refused_while_draws_are_behind(tmp_path: Path) -> None:
    """And go on after a draw."""
    settings = _settings(samples_per_insert=2.0, error_buffer=2.0, limit_inserts=True)
    with ExperienceBuffer.open(tmp_path, settings) as buffer:
        buffer.append(_experiences(2))
        with pytest.raises(RateLimitedError):
            buffer.append(_experiences(1))
        buffer.sample(4)

        assert buffer.append(_experiences(1)).ids == [3]

"""A draw, from the caller's wishes to a batch: checked, counted against the rate limit, and noted as retrievals."""

from __future__ import annotations

from collections.abc import Callable

from buffer_service.core.columns import Columns
from buffer_service.core.conditions import Filter, parse
from buffer_service.core.distribution import Distribution
from buffer_service.core.drawing import MODES, WEIGHT_NORMS, Mode, WeightNorm
from buffer_service.core.rate_limiter import RateLimiter
from buffer_service.core.retrievals import Retrievals
from buffer_service.core.sampler import Drawn, Sampler
from buffer_service.errors import InvalidRequestError
from buffer_service.settings import SamplingSettings
from buffer_service.storage.table import Table

_BETA_MAX = 4.0


class Draws:
    """Draws from what is live. Any thread; close it."""

    def __init__(
        self,
        settings: SamplingSettings,
        table: Table,
        columns: Columns,
        retrievals: Retrievals,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._columns = columns
        self._retrievals = retrievals
        self._clock = clock
        self.sampler = Sampler(settings, table, clock())
        self.limiter = RateLimiter(settings, table)
        self.distribution = Distribution(self.sampler, clock)

    def close(self) -> None:
        """Finish what runs aside."""
        self.distribution.close()

    def draw(
        self,
        size: int,
        beta: float | None,
        *,
        unique: bool,
        mode: Mode,
        weight_norm: WeightNorm,
        wanted: Filter | None,
    ) -> Drawn:
        """See ``ExperienceBuffer.sample``."""
        exponent = self._settings.beta if beta is None else beta
        if not 0.0 <= exponent <= _BETA_MAX:
            raise InvalidRequestError(f"beta is {exponent}; give 0 to {_BETA_MAX:g}")
        if mode not in MODES:
            raise InvalidRequestError(f"mode is {mode!r}; give one of {', '.join(MODES)}")
        if weight_norm not in WEIGHT_NORMS:
            raise InvalidRequestError(f"weight_norm is {weight_norm!r}; give one of {', '.join(WEIGHT_NORMS)}")
        conditions = parse(wanted) if wanted else []
        self.limiter.take(size)
        made = 0
        try:
            drawn = self.sampler.draw(
                size,
                exponent,
                self._clock(),
                unique=unique,
                mode=mode,
                weight_norm=weight_norm,
                allowed=self._columns.allowed(conditions) if conditions else None,
            )
            made = len(drawn.ids)
        finally:
            self.limiter.give_back(size - made)
        self._retrievals.note(drawn.ids, searched=False)
        return drawn

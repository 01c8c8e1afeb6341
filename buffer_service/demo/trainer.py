"""The training side: draw a batch by priority, and say which experiences are still worth training on."""

from __future__ import annotations

from buffer_client import BufferClient, StoredExperience, UpdateStatus
from buffer_service.demo.progress import Progress

EVERY_STEPS = 100
_BATCH = 64


class Trainer:
    """Stands in for a gradient step: an answer that was wrong, or right by a narrow vote, has more left to teach."""

    def __init__(self, client: BufferClient, progress: Progress) -> None:
        self._client = client
        self._progress = progress

    def train(self) -> None:
        """Draw one batch and update its priorities."""
        batch = self._client.sample(_BATCH, unique=True, include=("experience",))
        if not batch.experiences:
            return
        priorities = [_surprise(experience) for experience in batch.experiences]
        statuses = self._client.update_priorities(batch.ids, priorities, batch.sequences)
        self._progress.priorities += statuses.count(UpdateStatus.APPLIED)


def _surprise(experience: StoredExperience) -> float:
    right = (experience.reward or 0.0) > 0
    return 1.0 - experience.confidence if right else 1.0 + experience.confidence

"""The inference side: look up the nearest experiences, let them vote, answer, and write back what came of it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from buffer_client import BufferClient, Experience, StoredExperience, Vote, vote
from buffer_service.demo.digits import LABELS, Digit
from buffer_service.demo.progress import Progress

NEIGHBOURS = 5
_QUESTION = "Which digit is this?"


class Learner:
    """Knows nothing but how to vote: all that it learns is in the buffer.

    ``own_only`` keeps the experiences of others out of the vote, for buffers that were not empty.
    """

    def __init__(self, client: BufferClient, progress: Progress, metric: str, *, own_only: bool) -> None:
        self._client = client
        self._progress = progress
        self._metric = metric
        self._filter = {"run": progress.run_id} if own_only else None
        self._guesses = np.random.default_rng(0)

    def answer(self, digit: Digit) -> None:
        """Answer one digit, then learn what it really was."""
        ids, scores, neighbours = self._look_up(digit)
        labels = [_label(neighbour) for neighbour in neighbours]
        outcome = vote(labels, scores, metric=self._metric) if labels else None
        guess = outcome.winner if outcome else int(self._guesses.integers(LABELS))
        correct = guess == digit.label
        experience = Experience(
            visual=digit.pixels,
            question=_QUESTION,
            answer=str(guess),
            confidence=outcome.confidence if outcome else 1.0 / LABELS,
            reward=1.0 if correct else -1.0,
            trajectory=_trajectory(ids, scores, outcome),
            metadata={
                "run": self._progress.run_id,
                "step": len(self._progress.correct),
                "label": digit.label,
                "correct": correct,
            },
        )
        self._progress.acknowledged += self._client.append(experience).ids.tolist()
        self._progress.correct.append(correct)
        if ids:
            self._client.report_outcomes(ids, [label == digit.label for label in labels])
            self._progress.outcomes += len(ids)

    def _look_up(self, digit: Digit) -> tuple[list[int], list[float], list[StoredExperience]]:
        started = time.perf_counter()
        found = self._client.search(digit.pixels, k=NEIGHBOURS, filter=self._filter, include=("experience",))
        self._progress.search_s.append(time.perf_counter() - started)
        self._progress.saw_generation(found.generation)
        neighbours = found.experiences[0] if found.experiences else []
        count = len(neighbours)
        return found.ids[0, :count].tolist(), found.scores[0, :count].tolist(), neighbours


def _label(experience: StoredExperience) -> int:
    return int((experience.metadata or {})["label"])


def _trajectory(ids: list[int], scores: list[float], outcome: Vote[int] | None) -> list[dict[str, Any]]:
    if outcome is None:
        return [{"action": "guess"}]
    return [
        {"action": "search", "neighbours": ids, "scores": [round(score, 4) for score in scores]},
        {"action": "vote", "shares": {str(label): round(share, 4) for label, share in outcome.shares.items()}},
    ]

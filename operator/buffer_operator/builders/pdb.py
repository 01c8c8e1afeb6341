"""The PodDisruptionBudget: there only where evictions are to be refused, for a budget of one pod blocks every drain."""

from __future__ import annotations

from buffer_operator.builders.metadata import manifest
from buffer_operator.kube.kinds import DISRUPTION_BUDGET, Json
from buffer_operator.kube.labels import Component, selection
from buffer_operator.observing.observed import Buffer


def disruption_budget(buffer: Buffer) -> Json:
    """Return the budget that refuses every eviction of a pod that is ready; one that is not may go at any time."""
    body = {
        "maxUnavailable": 0,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selection(buffer.name, Component.BUFFER)},
    }
    return manifest(DISRUPTION_BUDGET, buffer, buffer.name, spec=body)

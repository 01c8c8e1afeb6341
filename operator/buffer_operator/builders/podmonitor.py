"""The PodMonitor, by which a Prometheus operator finds the metrics of the data pods."""

from __future__ import annotations

from buffer_operator.builders.metadata import manifest
from buffer_operator.kube.kinds import POD_MONITOR, Json
from buffer_operator.kube.labels import BUFFER, Component, selection
from buffer_operator.observing.observed import Buffer
from buffer_operator.resource.spec import Spec


def pod_monitor(buffer: Buffer, spec: Spec) -> Json:
    """Return the PodMonitor; time series carry the buffer's name as a label."""
    body = {
        "selector": {"matchLabels": selection(buffer.name, Component.BUFFER)},
        "podMetricsEndpoints": [{"port": "operations", "path": "/metrics"}],
        "podTargetLabels": [BUFFER],
    }
    monitor = manifest(POD_MONITOR, buffer, buffer.name, spec=body)
    monitor["metadata"]["labels"] = {**spec.monitoring.labels, **monitor["metadata"]["labels"]}
    return monitor

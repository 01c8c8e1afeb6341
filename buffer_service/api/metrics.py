"""Prometheus metrics: request counts and latencies; the buffer's status as gauges, computed when they are scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.dispatcher import Dispatcher

_LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_GAUGES = {
    "sequence": "Sequence number of the last acknowledged operation",
    "size": "Live experiences",
    "capacity": "Most live experiences",
    "generation": "Index generation in service",
    "pointer_revision": "Revision of the pointer in service",
    "watermark": "Sequence number up to which the generation holds the content",
    "delta_rows": "Rows that came after the generation in service",
    "tombstones": "Rows of the generation in service that have left",
    "pending_operations": "Index-changing operations since the watermark",
    "rss_bytes": "Resident memory",
}


class Metrics:
    """One registry per process."""

    def __init__(self, buffer: ExperienceBuffer, dispatcher: Dispatcher) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_StatusCollector(buffer, dispatcher))
        self._requests = _Requests()
        self._registry.register(self._requests)
        self.observe = self._requests.observe

    def render(self) -> bytes:
        """Return the text exposition."""
        return generate_latest(self._registry)


class _Requests(Collector):
    """Counts and latencies of requests. On the event loop alone, so that counting one takes no lock."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._latencies: dict[str, _Latency] = {}

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        key = (path, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        latency = self._latencies.get(path)
        if latency is None:
            latency = self._latencies[path] = _Latency()
        latency.sum_s += seconds
        latency.counts[bisect_left(_LATENCY_BUCKETS_S, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("xbuf_requests", "Requests by path and HTTP status", labels=["path", "status"])
        for (path, status), count in self._counts.items():
            requests.add_metric([path, str(status)], count)
        yield requests
        text = "Time from the body's arrival to the answer"
        latencies = HistogramMetricFamily("xbuf_request_seconds", text, labels=["path"])
        for path, latency in self._latencies.items():
            latencies.add_metric([path], latency.buckets(), latency.sum_s)
        yield latencies


class _Latency:
    """A histogram: ``counts`` by bucket, the last for what is beyond all bounds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_LATENCY_BUCKETS_S) + 1)
        self.sum_s = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Return the counts up to each bound."""
        bounds = [*map(str, _LATENCY_BUCKETS_S), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class _StatusCollector(Collector):
    def __init__(self, buffer: ExperienceBuffer, dispatcher: Dispatcher) -> None:
        self._buffer = buffer
        self._dispatcher = dispatcher

    def collect(self) -> Iterator[Metric]:
        status = self._buffer.status()
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"xbuf_{name}", text, value=getattr(status, name))
        if status.recall is not None:
            yield GaugeMetricFamily("xbuf_recall", "Recall@10 of live searches against a scan", value=status.recall)
        checked = float(self._buffer.recall_check.checked)
        yield GaugeMetricFamily("xbuf_recall_checks", "Live searches checked since the start", value=checked)
        writable = float(status.store.writable)
        yield GaugeMetricFamily("xbuf_store_writable", "1 while writes are taken", value=writable)
        yield GaugeMetricFamily("xbuf_store_size_bytes", "Bytes of the store on disk", value=status.store.size_bytes)
        switches = float(self._buffer.follower.switches)
        yield GaugeMetricFamily("xbuf_index_switches", "Switches since the start", value=switches)
        writer = self._buffer.writer
        yield CounterMetricFamily("xbuf_write_groups", "Groups committed since the start", value=writer.groups)
        yield CounterMetricFamily("xbuf_write_operations", "Operations in these groups", value=writer.operations)
        text = "Time for which writes let searches go first since the start"
        yield CounterMetricFamily("xbuf_write_rest_seconds", text, value=writer.rested_s)
        batches, rows = float(self._dispatcher.batches), float(self._dispatcher.rows)
        yield CounterMetricFamily("xbuf_search_batches", "Batches of searches since the start", value=batches)
        yield CounterMetricFamily("xbuf_search_batched_queries", "Queries in these batches", value=rows)
        yield from self._sampling()
        refused = float(status.refused is not None)
        yield GaugeMetricFamily("xbuf_generation_refused", "1 while the pointer is not followed", value=refused)
        backend = InfoMetricFamily("xbuf_backend", "Where FAISS runs")
        backend.add_metric(
            [],
            {
                "requested": status.backend.requested,
                "active": status.backend.active,
                "reason": status.backend.reason,
            },
        )
        yield backend

    def _sampling(self) -> Iterator[Metric]:
        draws = self._buffer.draws
        if (even := draws.distribution.latest()) is not None:
            size = "Effective sample size of prioritised draws: 1 / sum of squared probabilities"
            yield GaugeMetricFamily("xbuf_sampling_effective_size", size, value=even.effective_size)
            entropy = "Entropy of prioritised draws in nats"
            yield GaugeMetricFamily("xbuf_sampling_entropy_nats", entropy, value=even.entropy_nats)
        if (room := draws.limiter.room()) is not None:
            text = "Draws that the rate limit leaves until more is appended"
            yield GaugeMetricFamily("xbuf_sampling_room", text, value=room)

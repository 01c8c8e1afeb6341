"""What the operator counts. Names are part of its interface; labels are bounded."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECONCILES: Final = Counter("xbuf_operator_reconciles_total", "Visits of buffers by result.", ["result"])
RECONCILE_SECONDS: Final = Histogram(
    "xbuf_operator_reconcile_seconds",
    "Duration of a visit of one buffer.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
ACTIONS: Final = Counter("xbuf_operator_actions_total", "Changes made, by kind of action.", ["action"])
STATUS_WRITES: Final = Counter("xbuf_operator_status_writes_total", "Statuses written because they had changed.")
API_REQUESTS: Final = Counter(
    "xbuf_operator_api_requests_total", "Requests to the API server by verb and HTTP status.", ["verb", "code"]
)
QUEUE_DEPTH: Final = Gauge("xbuf_operator_queue_depth", "Buffers that are due and wait for a worker.")
LAST_RESYNC: Final = Gauge("xbuf_operator_last_successful_resync_timestamp_seconds", "Unix time of the last resync.")
WATCH_RESTARTS: Final = Counter("xbuf_operator_watch_restarts_total", "Watches that broke, by plural.", ["resource"])
LEADING: Final = Gauge("xbuf_operator_leading", "1 where this process may act, 0 where it stands by.")
GLANCES: Final = Counter(
    "xbuf_operator_glances_total", "Looks at what the watches have seen, by what came of it.", ["result"]
)

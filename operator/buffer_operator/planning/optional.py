"""Objects that a buffer has only where its spec asks for them: NetworkPolicy, PodDisruptionBudget, PodMonitor. Pure."""

from __future__ import annotations

from typing import Final

from buffer_operator.builders.networkpolicy import network_policy
from buffer_operator.builders.pdb import disruption_budget
from buffer_operator.builders.podmonitor import pod_monitor
from buffer_operator.kube.kinds import DISRUPTION_BUDGET, NETWORK_POLICY, POD_MONITOR, Json, Kind
from buffer_operator.observing.observed import Observed
from buffer_operator.planning.actions import Remove
from buffer_operator.resource.spec import Spec

OPTIONAL: Final = (NETWORK_POLICY, DISRUPTION_BUDGET, POD_MONITOR)
"""Kinds of which a buffer has at most one object, with its own name."""


def asked_for(spec: Spec) -> frozenset[Kind]:
    """Return the kinds of which the spec asks for one."""
    asked = {
        NETWORK_POLICY: spec.network_policy.enabled,
        DISRUPTION_BUDGET: spec.disruption_budget == "Block",
        POD_MONITOR: spec.monitoring.pod_monitor,
    }
    return frozenset(kind for kind, wanted in asked.items() if wanted)


def optional_objects(observed: Observed, spec: Spec) -> list[Json]:
    """Return what is asked for and known to the cluster."""
    buffer, asked = observed.buffer, asked_for(spec)
    wanted = []
    if NETWORK_POLICY in asked:
        wanted.append(network_policy(buffer, spec))
    if DISRUPTION_BUDGET in asked:
        wanted.append(disruption_budget(buffer))
    if POD_MONITOR in asked and observed.knows_pod_monitors:
        wanted.append(pod_monitor(buffer, spec))
    return wanted


def plan_removals(observed: Observed, spec: Spec) -> list[Remove]:
    """Remove what is no longer asked for."""
    return [_removal(kind, found) for kind, found in _existing(observed) if kind not in asked_for(spec)]


def _existing(observed: Observed) -> list[tuple[Kind, Json]]:
    found = ((kind, observed.children.get((kind, observed.buffer.name))) for kind in OPTIONAL)
    return [(kind, child) for kind, child in found if child and "deletionTimestamp" not in child["metadata"]]


def _removal(kind: Kind, found: Json) -> Remove:
    return Remove(kind, found["metadata"]["name"], found["metadata"]["uid"])

"""The NetworkPolicy of the data pods: who may connect to them. They connect to nothing.

Probes come from the node, which a policy does not stop.
"""

from __future__ import annotations

from typing import Final

from buffer_operator.builders.metadata import manifest
from buffer_operator.kube.kinds import NETWORK_POLICY, Json
from buffer_operator.kube.labels import Component, selection
from buffer_operator.observing.observed import Buffer
from buffer_operator.resource.spec import Spec
from buffer_service.contract import names

OPERATOR_LABELS: Final = {"app.kubernetes.io/name": "experience-buffer-operator"}
"""Labels of the operator's own pods, as its chart gives them."""


def network_policy(buffer: Buffer, spec: Spec) -> Json:
    """Return the policy. Peers reach the API and the metrics; the operator the API; what scrapes metrics only these."""
    peers = spec.network_policy.peers or [{"podSelector": {}}]
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": OPERATOR_LABELS}}
    ingress = [
        {"from": peers, "ports": [_port(names.HTTP_PORT), _port(names.OPERATIONS_PORT)]},
        {"from": [operator], "ports": [_port(names.HTTP_PORT)]},
    ]
    if spec.monitoring.pod_monitor:
        ingress.append({"from": [{"namespaceSelector": {}}], "ports": [_port(names.OPERATIONS_PORT)]})
    body = {
        "podSelector": {"matchLabels": selection(buffer.name, Component.BUFFER)},
        # Egress without a rule for it: nothing may go out.
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
    }
    return manifest(NETWORK_POLICY, buffer, buffer.name, spec=body)


def _port(number: int) -> Json:
    return {"port": number, "protocol": "TCP"}

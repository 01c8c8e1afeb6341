"""The two Services: one for clients, one that gives each pod a name."""

from __future__ import annotations

from buffer_operator.builders.metadata import manifest
from buffer_operator.kube.kinds import SERVICE, Json
from buffer_operator.kube.labels import Component, selection
from buffer_operator.observing.observed import Buffer
from buffer_service.contract import names


def client_service(buffer: Buffer) -> Json:
    """Return the Service that clients talk to: ready pods only."""
    port = {"name": "http", "port": names.SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    spec = {"type": "ClusterIP", "selector": selection(buffer.name, Component.BUFFER), "ports": [port]}
    return manifest(SERVICE, buffer, buffer.name, spec=spec)


def headless_service(buffer: Buffer) -> Json:
    """Return the Service behind the pods' own names; it lists pods that are not ready too."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selection(buffer.name, Component.BUFFER),
        "ports": [
            {"name": "http", "port": names.HTTP_PORT, "targetPort": "http", "protocol": "TCP"},
            {"name": "operations", "port": names.OPERATIONS_PORT, "targetPort": "operations", "protocol": "TCP"},
        ],
    }
    return manifest(SERVICE, buffer, names.headless_service(buffer.name), spec=spec)

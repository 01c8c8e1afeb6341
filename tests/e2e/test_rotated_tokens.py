"""New tokens in the Secret: pod and operator take them up without a restart, the old ones open nothing any more."""

from __future__ import annotations

import json
import secrets

import numpy as np
import pytest

from buffer_client import BufferClient, ClientError, Experience
from buffer_service.contract import names
from tests.e2e.support.buffers import DIMENSION, Buffer, manifest
from tests.e2e.support.kubectl import Kubectl, eventually
from tests.e2e.support.measured import Measured

TAKEN_UP_BAR_S = 30.0
OPERATOR_BAR_S = 30.0


@pytest.mark.timeout(180)
def test_rotated_tokens_are_taken_up_by_pod_and_operator(kubectl: Kubectl, image: str, measured: Measured) -> None:
    """The kubelet is hurried by an annotation, as the guide says; unasked it takes up to a minute and a half."""
    del image
    buffer = Buffer(kubectl)
    kubectl.apply(manifest())
    buffer.wait_ready()
    pod, old = buffer.pod()["metadata"]["uid"], buffer.token("read")
    new = {scope: secrets.token_urlsafe(32) for scope in names.TOKEN_SCOPES}
    patch = json.dumps({"stringData": new})
    kubectl("patch", "secret", names.token_secret(buffer.name), "--type=merge", "--patch", patch)
    with buffer.forwarded() as url:
        kubectl("annotate", "pod", buffer.pod_name, "example.com/rotated=1")
        seconds = measured.time(
            lambda: eventually(lambda: _opens(url, new["read"]), "the pod to take the new tokens", 120)
        )
        measured.below("tokens rotated: until the pod takes the new ones", seconds, TAKEN_UP_BAR_S)
        eventually(lambda: not _opens(url, old), "the old token to be refused", 10)
        with BufferClient(url, token=new["write"]) as client:
            client.append([Experience(visual=np.ones(DIMENSION, np.float32), confidence=0.5)])
    seconds = measured.time(lambda: eventually(lambda: buffer.status().get("records") == 1, "the operator to ask", 90))
    measured.below("tokens rotated: until the operator reports by the new ones", seconds, OPERATOR_BAR_S)
    buffer.wait_condition("IndexCurrent", "True", 10)
    assert buffer.pod()["metadata"]["uid"] == pod
    assert {scope: buffer.token(scope) for scope in new} == new


def _opens(url: str, token: str) -> bool:
    try:
        with BufferClient(url, token=token, retries=0) as client:
            client.status()
    except ClientError:
        return False
    return True

"""Talking to the process in a pod: its status, and the order to export.

A seam: inside a cluster it is plain HTTP to the pod's address. Owned by the main event loop.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Protocol, TypeVar

import aiohttp
import msgspec

from buffer_operator.errors import UnavailableError
from buffer_operator.kube.fence import Fence, FencedConnector, no_fence
from buffer_service.contract import names
from buffer_service.contract.status import ServiceStatus

_STATUS_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)
_EXPORT_TIMEOUT: Final = aiohttp.ClientTimeout(total=150, sock_connect=2)
_ERROR_TEXT_MAX: Final = 300

_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class Exported(msgspec.Struct, frozen=True):
    """What an export holds."""

    watermark: int
    rows: int


class PodApi(Protocol):
    """What the operator asks of a pod. Both methods raise UnavailableError."""

    async def status(self, address: str, token: str) -> ServiceStatus:
        """Return the state of the process at that IP address."""

    async def export(self, address: str, token: str) -> Exported:
        """Have everything up to now exported to the volume; the export is there when this returns."""


class HttpPods:
    """Pods by HTTP at their own addresses."""

    def __init__(self, fence: Fence = no_fence) -> None:
        self._session = aiohttp.ClientSession(connector=FencedConnector(fence))

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def status(self, address: str, token: str) -> ServiceStatus:
        """See PodApi."""
        return await self._ask("GET", address, "/v1/status", token, _STATUS_TIMEOUT, ServiceStatus)

    async def export(self, address: str, token: str) -> Exported:
        """See PodApi. Raises NotLeadingError where the fence refuses; then the pod was not asked."""
        return await self._ask("POST", address, "/v1/admin/export", token, _EXPORT_TIMEOUT, Exported)

    async def _ask(
        self,
        verb: str,
        address: str,
        path: str,
        token: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own, per socket as well
        answer: type[_Answer],
    ) -> _Answer:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{names.HTTP_PORT}{path}"
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with self._session.request(verb, url, headers=headers, timeout=timeout) as response:
                content = await response.read()
                if response.status != HTTPStatus.OK:
                    text = content[:_ERROR_TEXT_MAX].decode(errors="replace")
                    raise UnavailableError(f"{verb} {path} answered {response.status}: {text}")
                return msgspec.json.decode(content, type=answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"{verb} {path} failed: {error!r}") from error
        except msgspec.DecodeError as error:
            raise UnavailableError(f"{verb} {path} answered something else: {error}") from error

"""Runs the API under uvicorn, with uvloop and httptools, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import uvloop

from buffer_service.api.app import Api, Operations
from buffer_service.api.auth import Tokens
from buffer_service.api.direct import DirectProtocol
from buffer_service.api.protocol import OneWriteProtocol
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.observability.logs import say
from buffer_service.settings import InvalidSettingsError, Settings

log = logging.getLogger(__name__)

_SHUTDOWN_GRACE_S = 10
_KEEP_ALIVE_S = 75
_BACKLOG = 1024
_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from others: the writer wants it back as soon as a sync is done."""


def serve(folder: Path, settings: Settings) -> None:
    """Serve the buffer in this folder. The first line on standard output says where it listens.

    Raises InvalidSettingsError, FatalError (see buffer_service.errors) and OSError when it cannot start.
    """
    if not _is_loopback(settings.server.host) and not Tokens(settings.auth.tokens_dir).any_configured:
        raise InvalidSettingsError(
            f"server.host is {settings.server.host}: listening beyond loopback needs tokens; set auth.tokens_dir "
            "to a folder with the files read, write and admin"
        )
    sockets = [_bind(settings.server.host, settings.server.port)]
    if settings.server.operations_port is not None:
        sockets.append(_bind(settings.server.host, settings.server.operations_port))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with ExperienceBuffer.open(folder, settings) as buffer:
        operations = Operations(buffer)
        api = Api(buffer, operations if len(sockets) == 1 else None)
        operations.metrics = api.metrics
        # What is there by now stays for good. To walk it, a full collection would stop every request for tens of ms.
        gc.collect()
        gc.freeze()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_run([api, operations], sockets))
        finally:
            api.close()


class _Server(uvicorn.Server):
    """uvicorn raises a signal again after it has shut down, which would end the process before the buffer is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the servers."""
        yield


async def _run(applications: list[Api | Operations], sockets: list[socket.socket]) -> None:
    servers = [_server(application) for application, _ in zip(applications, sockets, strict=False)]
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, _stop, servers[0])
    main, *others = [asyncio.create_task(server.serve([bound])) for server, bound in zip(servers, sockets, strict=True)]
    host, port = sockets[0].getsockname()[:2]
    say(f"listening on http://{host}:{port}")
    await main
    for server in servers[1:]:
        server.should_exit = True
    await asyncio.gather(*others)


def _stop(server: uvicorn.Server) -> None:
    if server.should_exit:
        server.force_exit = True
    server.should_exit = True


def _server(application: Api | Operations) -> uvicorn.Server:
    config = uvicorn.Config(
        application,
        loop="none",
        http=DirectProtocol if isinstance(application, Api) else OneWriteProtocol,
        proxy_headers=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_S,
    )
    return _Server(config)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error
    bound.listen(_BACKLOG)
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

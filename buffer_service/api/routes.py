"""FastAPI's part: single experiences, pages of them, status, administration, the page, the API's description."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from buffer_service.api.contents import VECTOR, require_room
from buffer_service.api.downloads import Download, Downloads
from buffer_service.api.hot import HotPaths
from buffer_service.api.messages import JSON, PROBLEM, Answer, encoded, problem
from buffer_service.api.openapi import describe_hot_paths
from buffer_service.api.schemas import Include
from buffer_service.core.buffer import ExperienceBuffer
from buffer_service.core.reading import VERSION
from buffer_service.core.tabular import MEDIA_TYPES, Format, require_pyarrow, written
from buffer_service.errors import ExperienceBufferError, InvalidRequestError
from buffer_service.storage.backup import stream

PAGE_FOLDER = Path(__file__).parent / "page"
_PAGE_LIMIT_MAX = 1000


class RollbackBody(BaseModel):
    """POST /v1/admin/rollback."""

    model_config = ConfigDict(strict=True, extra="forbid")

    generation: int | None = None
    """The generation to go back to; unset, the newest before the one served."""


def build_routes(buffer: ExperienceBuffer, hot: HotPaths, backups: Downloads, exports: Downloads) -> FastAPI:
    """Return the FastAPI application."""
    app = FastAPI(
        title="Experience buffer",
        version=VERSION,
        description="Memory for models that learn while they serve. Errors are RFC 9457 problem documents.",
        redoc_url=None,
        max_body_size=buffer.settings.server.body_bytes_max,
    )
    _add_experiences(app, buffer, hot)
    _add_export(app, buffer, exports)
    _add_administration(app, buffer, hot, backups)
    _add_errors(app)
    describe_hot_paths(app)
    app.mount("/", StaticFiles(directory=PAGE_FOLDER, html=True), name="page")
    return app


def _add_experiences(app: FastAPI, buffer: ExperienceBuffer, hot: HotPaths) -> None:
    @app.get("/v1/experiences/{experience}", summary="One experience with its vector and counters")
    async def get_experience(experience: int, request: Request) -> Response:
        found = await hot.on_thread(lambda: buffer.get(experience))
        return _encoded(request, found)

    @app.delete("/v1/experiences/{experience}", summary="Remove one experience; it is never found again")
    async def remove_experience(experience: int) -> Response:
        sequence = await asyncio.wrap_future(buffer.remove_soon(experience))
        return _json({"id": experience, "sequence": sequence})

    @app.get("/v1/experiences", summary="A page of experiences, oldest first")
    async def list_experiences(
        request: Request,
        cursor: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=_PAGE_LIMIT_MAX)] = 100,
        include: Annotated[Include, Query()] = [],  # noqa: B006 - FastAPI copies it
    ) -> Response:
        require_room(buffer, include, limit)
        experiences, following = await hot.on_thread(lambda: buffer.page(cursor, limit, vectors=VECTOR in include))
        return _encoded(request, {"experiences": experiences, "next_cursor": following})

    @app.get("/v1/status", summary="Sequence, size, generation, backend, health")
    async def get_status() -> Response:
        return _json(await hot.on_thread(buffer.status))


def _add_export(app: FastAPI, buffer: ExperienceBuffer, exports: Downloads) -> None:
    @app.get(
        "/v1/export",
        summary="What is live at one sequence, see X-Sequence, as a file for analysis",
        response_class=Response,
        responses={HTTPStatus.OK: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}}},
    )
    async def export_for_analysis(kind: Annotated[Format, Query(alias="format")] = "parquet") -> Response:
        def begin() -> Download:
            require_pyarrow()
            moment = buffer.moment()
            return Download(moment.image.header.sequence, written(moment, kind))

        return await exports.answer(begin, MEDIA_TYPES[kind])


def _add_administration(app: FastAPI, buffer: ExperienceBuffer, hot: HotPaths, backups: Downloads) -> None:
    @app.post(
        "/v1/admin/backup",
        summary="A backup at one sequence, see X-Sequence, as a tar that ends with its manifest",
        response_class=Response,
        responses={HTTPStatus.OK: {"content": {"application/x-tar": {}}}},
    )
    async def backup() -> Response:
        def begin() -> Download:
            source = buffer.backup()
            return Download(source.sequence, stream(source))

        return await backups.answer(begin, "application/x-tar")

    @app.post("/v1/admin/export", summary="Bring the export up to date")
    async def export() -> Response:
        manifest = await hot.aside(buffer.export)
        return _json({"watermark": manifest.watermark, "rows": manifest.rows})

    @app.post("/v1/admin/rollback", summary="Point to an earlier generation")
    async def rollback(body: RollbackBody) -> Response:
        return _json(await hot.aside(lambda: buffer.rollback(body.generation)))


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ExperienceBufferError)
    async def known(request: Request, error: ExperienceBufferError) -> Response:
        del request
        return _response(problem(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # The input is not echoed: it may hold NaN, which JSON cannot carry.
        del request
        places = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        return _response(problem(InvalidRequestError(places)))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        document = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": f"{request.method} {request.url.path}: {error.detail}; the API is described at /docs",
            "code": status.phrase.lower().replace(" ", "-"),
        }
        return Response(msgspec.json.encode(document), status, dict(error.headers or {}), PROBLEM)


def _encoded(request: Request, content: object) -> Response:
    """Answer in MessagePack or JSON, as the caller accepts it."""
    return _response(encoded(content, request.headers.get("accept", "")))


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON)


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, int(answer.status), headers, answer.content_type)

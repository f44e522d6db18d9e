"""The web application around `Masks`: one page, what it needs to know, masks, files of masks.

A picture is the body of a request and nothing else, so that its size is known before it is read;
names are words that no path is ever made of.
"""

import base64
import functools
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Annotated, Any

import cv2
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from segan.arrays import Picture
from segan.data.images import one_line
from segan.errors import ConfigError, SeganError
from segan.formats import FORMATS
from segan.refining import REFINEMENTS
from segan.serve.masks import LEVELS, NO_REFINEMENT, Limits, Masks, formats, levels
from segan.serve.masks import Request as Asked

_PAGES = {
    "/": ("index.html", "text/html"),
    "/app.css": ("app.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# A page of another site cannot send this without asking first, and is not allowed to.
_BODY_TYPE = "application/octet-stream"
_JPEG_QUALITY = 92

Name = Annotated[str, Query(max_length=300)]


def build_app(masks: Masks, *, hosts: Sequence[str]) -> FastAPI:
    """The application.

    Args:
        masks: What it hands out.
        hosts: Names by which it may be asked; ["*"] for any.
    """
    app = FastAPI(title="segan", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=1)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    _add_errors(app)
    for path in _PAGES:
        app.add_api_route(path, functools.partial(_page, path), methods=["GET"])

    @app.get("/api/info")
    def info() -> dict[str, Any]:
        return _info(masks)

    @app.post("/api/mask")
    async def mask(
        request: Request,
        name: Name = "picture",
        model: int = 0,
        refine: str = NO_REFINEMENT,
        picture: bool = True,
    ) -> dict[str, Any]:
        asked = Asked(await _body(request, masks.limits), name, model, refine)
        return await run_in_threadpool(_mask, masks, asked, with_picture=picture)

    @app.post("/api/file")
    async def file(
        request: Request,
        name: Name = "picture",
        model: int = 0,
        refine: str = NO_REFINEMENT,
        level: int = LEVELS // 2,
        format: str = "masks",
    ) -> Response:
        asked = Asked(await _body(request, masks.limits), name, model, refine)
        content = await run_in_threadpool(masks.encode, asked, level=level, format_name=format)
        headers = {"Content-Disposition": f'attachment; filename="mask{FORMATS[format].suffix}"'}
        return Response(content, media_type=_BODY_TYPE, headers=headers)

    return app


# --- answers -------------------------------------------------------------------------------------


def _page(path: str) -> Response:
    name, kind = _PAGES[path]
    content = files(__package__).joinpath("static", name).read_bytes()
    return Response(content, media_type=f"{kind}; charset=utf-8")


def _info(masks: Masks) -> dict[str, Any]:
    return {
        "models": [
            {"name": each.name, "supervision": each.metadata["supervision"]["train"]}
            for each in masks.models
        ],
        "refinements": [NO_REFINEMENT, *REFINEMENTS],
        "formats": formats(),
        "levels": LEVELS,
        "max_bytes": masks.limits.num_bytes,
        "max_megapixels": masks.limits.megapixels,
    }


def _mask(masks: Masks, asked: Asked, *, with_picture: bool) -> dict[str, Any]:
    result = masks.segment(asked)
    height, width = result.mask.shape
    answer: dict[str, Any] = {
        "width": width,
        "height": height,
        "levels": base64.b64encode(levels(result.mask).tobytes()).decode("ascii"),
    }
    if with_picture:
        answer["picture"] = _jpeg(result.picture)
    return answer


def _jpeg(picture: Picture) -> str:
    """The picture as it was read, upright, in 8 bits; browsers do not show every format."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    ok, data = cv2.imencode(".jpg", picture[..., ::-1], settings)
    assert ok
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


async def _body(request: Request, limits: Limits) -> bytes:
    """The picture's file, read no further than the limit."""
    if request.headers.get("content-type") != _BODY_TYPE:
        raise HTTPException(415, f"send the picture's file as {_BODY_TYPE}")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limits.num_bytes:
            raise HTTPException(413, f"the file is larger than {limits.megabytes:g} megabytes")
    if not content:
        raise HTTPException(422, "the file is empty")
    return bytes(content)


# --- errors --------------------------------------------------------------------------------------


def _add_errors(app: FastAPI) -> None:
    """Every error is {"error": one line}; every answer has the headers that keep pages apart."""

    @app.exception_handler(SeganError)
    async def refused(_: Request, error: SeganError) -> JSONResponse:
        return _error(400 if isinstance(error, ConfigError) else 422, str(error))

    @app.exception_handler(MemoryError)
    async def exhausted(_: Request, __: MemoryError) -> JSONResponse:
        return _error(422, "the server has not enough memory for this picture")

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail).lower())

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _error(400, f"{first['loc'][-1]}: {first['msg'].lower()}")

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> JSONResponse:
        # Outside of the middleware; what it was goes to standard error.
        answer = _error(500, "this went wrong in the server; what it prints says why")
        answer.headers.update(_HEADERS)
        return answer

    @app.middleware("http")
    async def guarded(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await answer(request)
        response.headers.update(_HEADERS)
        return response


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": one_line(message)}, status_code=status)

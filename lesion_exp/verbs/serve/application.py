"""The web application: its routes, its schema and its error handlers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, NamedTuple

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lesion_exp.file_kind import FORMATS
from lesion_exp.verbs.serve.answers import RESEARCH_ONLY, Answer, Example, Health, Problem
from lesion_exp.verbs.serve.examples import DrawnExample
from lesion_exp.verbs.serve.guard import KEY_HEADER, Guard
from lesion_exp.verbs.serve.intake import FILE, Refusal
from lesion_exp.verbs.serve.monitoring import Monitoring
from lesion_exp.verbs.serve.prediction import NOT_KNOWN, OLDEST, Prediction
from lesion_exp.verbs.serve.settings import Settings
from lesion_exp.version import __version__

log = logging.getLogger(__name__)


FORM_TYPE: Final = "multipart/form-data"


def form_schema(prediction: Prediction) -> dict[str, Any]:
    """Returns the media type object of the form: the images, and the fields that the network reads beside them."""
    settings, encoder = prediction.settings, prediction.model.encoder
    properties: dict[str, Any] = {
        FILE: {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "maxItems": settings.max_images,
            "description": f"images, at most {settings.max_pixels:,} pixels each and {settings.max_upload_mb:g} MiB "
            f"together",
        }
    }
    if encoder is not None:
        once = "; once for all images, or once for each"
        properties["age"] = {
            "anyOf": [{"type": "number", "minimum": 0, "maximum": OLDEST}, {"enum": list(NOT_KNOWN)}],
            "description": f"years{once}",
        }
        for name, known in (("sex", encoder.sexes), ("site", encoder.sites)):
            properties[name] = {"type": "string", "enum": [*known, *NOT_KNOWN], "description": f"as in training{once}"}
    return {
        "schema": {"type": "object", "properties": properties, "required": [FILE], "additionalProperties": False},
        "encoding": {FILE: {"contentType": ", ".join(FORMATS.values())}},
    }


_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class PageFile(NamedTuple):
    """A file with its media type."""

    content: bytes
    media_type: str


def page_files() -> Mapping[str, PageFile]:
    """Returns the files of the web page, by their names."""
    folder = resources.files("lesion_exp.verbs.serve").joinpath("page")
    return {
        entry.name: PageFile(entry.read_bytes(), _TYPES[PurePosixPath(entry.name).suffix])
        for entry in folder.iterdir()
        if PurePosixPath(entry.name).suffix in _TYPES
    }


_CLOSED: Final = ("/predict", "/model", "/metrics")
_PAGES: Final = {"/": "index.html", "/docs": "docs.html", "/favicon.svg": "favicon.svg"}
_PREDICT_OPTIONS: Final = ("gradcam",)
_GRADCAM: Final = "whether to add the Grad-CAM map of each prediction, which takes longer"
_TOLD_LIMITS: Final = ("max_upload_mb", "max_pixels", "max_images")
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem, "description": meaning}
    for status, meaning in {
        400: "a form that cannot be parsed",
        403: "a request from a page of another site, or to a host name that is not this server's",
        408: "a request that came too slowly",
        413: "too many bytes or pixels",
        415: "no multipart form, or no image in a known format",
        422: "an image, field or value that cannot be used; too many images",
        429: "more than the server accepts at once; Retry-After says when to try again",
    }.items()
}
_NO_KEY: Final[dict[int | str, dict[str, Any]]] = {401: {"model": Problem, "description": "the server's key is needed"}}


def make_application(
    prediction: Prediction,
    card: Mapping[str, Any],
    examples: Mapping[str, DrawnExample],
    settings: Settings,
    monitoring: Monitoring,
) -> Guard:
    """Returns the application within its guard.

    Args:
        prediction: answers `/predict`; it is started and stopped with the application.
        card: the answer of `/model`.
        examples: generated images, by their names.
        settings: the key, the host names and the limits of the server.
        monitoring: the answer of `/metrics`.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        prediction.start()
        yield
        await run_in_threadpool(prediction.stop)

    keyed = _NO_KEY if settings.api_key is not None else {}
    app = FastAPI(
        title="lesion_exp", version=__version__, summary="Predictions for images of skin lesions",
        description=RESEARCH_ONLY, docs_url=None, redoc_url=None, lifespan=lifespan,
    )  # fmt: skip
    files = page_files()
    _add_answers(app, prediction, keyed)
    takes = {"formats": list(FORMATS), **{name: getattr(settings, name) for name in _TOLD_LIMITS}}
    _add_facts(app, prediction, {**card, "takes": takes}, monitoring, keyed)
    _add_examples(app, examples)
    for path, name in {**_PAGES, **{f"/page/{name}": name for name in files}}.items():
        app.router.routes.append(_file_route(path, files[name]))
    _add_error_handlers(app)
    _describe(app, prediction, with_key=settings.api_key is not None)
    shown = ["/health", "/openapi.json", "/examples", *_PAGES, *(f"/page/{name}" for name in files)]
    shown += [f"/examples/{name}" for name in examples]
    return Guard(app, monitoring, open_paths=shown, closed_paths=_CLOSED, settings=settings)


def _add_answers(app: FastAPI, prediction: Prediction, keyed: dict[int | str, dict[str, Any]]) -> None:
    @app.post(
        "/predict", response_model=Answer, responses={**_REFUSALS, **keyed}, tags=["predictions"],
        summary="Predict one image or several",
        openapi_extra={"requestBody": {"required": True, "content": {FORM_TYPE: form_schema(prediction)}}},
    )  # fmt: skip
    async def predict(request: Request, gradcam: Annotated[bool, Query(description=_GRADCAM)] = False) -> Answer:
        """Send images as a multipart form, in the repeatable field `file`. With `gradcam=true` each answer has two
        pictures: the square that the network sees, and the Grad-CAM map of the prediction. If some of several images
        cannot be used, `error` gives the reason for each. If none of them can be used, the request is refused: with
        415 if all are in unknown formats, else as the first image in a known format would be."""
        for name in request.query_params:
            if name not in _PREDICT_OPTIONS:
                known = ", ".join(f"{option}=" for option in _PREDICT_OPTIONS)
                raise Refusal(422, f"expected {known} as the only option, got {name[:60]!r}; leave it out")
        return await prediction.answer(request, with_heat_map=gradcam)


def _add_facts(
    app: FastAPI,
    prediction: Prediction,
    card: Mapping[str, Any],
    monitoring: Monitoring,
    keyed: dict[int | str, dict[str, Any]],
) -> None:
    @app.get("/health", response_model=Health, tags=["server"], summary="Whether the server can answer",
             responses={503: {"model": Problem, "description": "the network's thread has ended"}})  # fmt: skip
    async def health() -> Health | JSONResponse:
        if not prediction.batcher.is_alive:
            return JSONResponse({"error": "the network's thread has ended; restart the server"}, 503)
        return Health(
            status="ok", run_id=prediction.run_id, version=__version__, images_waiting=prediction.intake.images
        )

    @app.get("/model", tags=["predictions"], responses=keyed, summary="The model card: classes, data, results, limits")
    async def model() -> dict[str, Any]:
        return dict(card)

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", tags=["server"], responses={**text, **keyed}, response_class=Response,
             summary="Counters of the server, for Prometheus")  # fmt: skip
    async def metrics() -> Response:
        return Response(monitoring.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_examples(app: FastAPI, examples: Mapping[str, DrawnExample]) -> None:
    @app.get("/examples", tags=["predictions"], summary="Generated images to try the server with")
    async def listed() -> list[Example]:
        return [
            Example(name=name, address=f"examples/{name}", drawn_as=example.drawn_as, title=example.title)
            for name, example in examples.items()
        ]

    for name, example in examples.items():
        app.router.routes.append(_file_route(f"/examples/{name}", PageFile(example.encoded, "image/jpeg")))


def _file_route(path: str, file: PageFile) -> Route:
    async def send(request: Request) -> Response:
        return Response(file.content, media_type=file.media_type, headers={"Cache-Control": "no-cache"})

    return Route(path, send, methods=["GET"], include_in_schema=False)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refuse(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"error": error.message}, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_value(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"expected another value of {first['loc'][-1]}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    async def refuse_route(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def forget(_: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "expected a complete request, but the client disconnected"}, 400)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the server failed on this request; see its log"}, 500)


def _describe(app: FastAPI, prediction: Prediction, *, with_key: bool) -> None:
    """Adds the key to the schema, if there is one."""
    if not with_key:
        return
    schema = app.openapi()
    schema["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": KEY_HEADER}}
    for path in _CLOSED:
        for operation in schema["paths"][path].values():
            operation["security"] = [{"key": []}]

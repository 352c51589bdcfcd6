"""Reads a multipart form while it arrives, into memory only: no upload is ever written to a disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from lesion_exp.verbs.serve.intake import Refusal, Upload

FILE: Final = "file"
"""The field of the images."""
_LONGEST_VALUE: Final = 200
"""Largest size of a field that is no file, bytes."""
_LONGEST_NAME: Final = 200
"""Characters of a file's name that are repeated in answers."""


@dataclass
class Form:
    """A form that a client sent."""

    files: list[tuple[str, bytes]] = field(default_factory=list)
    """Name and content of each file."""
    values: dict[str, list[str]] = field(default_factory=dict)
    """The values of each other field."""


@dataclass
class _Part:
    name: str = ""
    filename: str | None = None
    content: bytearray = field(default_factory=bytearray)


async def read_form(request: Request, upload: Upload, fields: Sequence[str], max_images: int) -> Form:
    """Reads the form in the body of `request`.

    Args:
        request: its body must not have been read.
        upload: counts the bytes while they arrive.
        fields: the fields that are allowed beside `file`.
        max_images: largest number of files, and of values of each other field.

    Raises:
        Refusal: with status 415 if there is no multipart form or a compressed one, 413 or 429 as `upload` says, 400
            if the form is broken, 422 if it has an unknown field.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != b"multipart/form-data" or not options.get(b"boundary"):
        raise Refusal(415, f"expected a multipart form with images in its field {FILE!r}, got {_shown(kind)}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "expected a body that is not compressed; leave Content-Encoding out")
    _check_announced(request, upload)
    reader = _Reader(options[b"boundary"], fields, max_images)
    await reader.read(request.stream(), upload)
    return reader.form


def _check_announced(request: Request, upload: Upload) -> None:
    """Refuses a request whose announced length is too large, before it is read; otherwise the bytes are counted."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        upload.check_room(int(announced))


class _Reader:
    """Collects the parts of a form."""

    def __init__(self, boundary: bytes, fields: Sequence[str], max_images: int) -> None:
        self.form = Form()
        self._fields = fields
        self._max_images = max_images
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        self._is_whole = False
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise Refusal(400, "expected a shorter boundary between the parts of the multipart form") from error

    async def read(self, stream: AsyncIterator[bytes], upload: Upload) -> None:
        """Reads the whole body."""
        try:
            async for chunk in stream:
                upload.add_bytes(len(chunk))
                self._parser.write(chunk)
            self._parser.finalize()
        except FormParserError as error:
            raise Refusal(400, "expected a multipart form, but its parts cannot be separated") from error
        if not self._is_whole:
            raise Refusal(400, "expected a complete multipart form, but it ends too early")

    def _begin(self) -> None:
        self._part, self._disposition = _Part(), b""

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        part = self._part
        part.name = _text(options.get(b"name", b""))
        part.filename = _text(options[b"filename"])[:_LONGEST_NAME] if b"filename" in options else None
        if part.name == FILE:
            if len(self.form.files) >= self._max_images:
                raise Refusal(422, f"expected at most {self._max_images} images a request, got more; send several")
            return
        if part.name not in self._fields:
            known = ", ".join([FILE, *self._fields])
            raise Refusal(422, f"expected a form with the fields {known}, got {_shown(part.name.encode())}")
        if len(self.form.values.get(part.name, ())) >= self._max_images:
            raise Refusal(422, f"expected {part.name} at most once an image, got it more than {self._max_images} times")

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._part.content += data[start:end]
        if self._part.name != FILE and len(self._part.content) > _LONGEST_VALUE:
            raise Refusal(422, f"expected {self._part.name} of at most {_LONGEST_VALUE} bytes, got more")

    def _end(self) -> None:
        part = self._part
        if part.name == FILE:
            name = part.filename or f"image {len(self.form.files) + 1}"
            self.form.files.append((name, bytes(part.content)))
        else:
            self.form.values.setdefault(part.name, []).append(_text(bytes(part.content)))
        self._part = _Part()

    def _finish(self) -> None:
        self._is_whole = True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _shown(raw: bytes) -> str:
    """The beginning of what a client sent, for a message."""
    return repr(_text(raw[:60])) if raw else "none"

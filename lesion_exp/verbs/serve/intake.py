"""Takes requests in: limits what a server accepts at the same time, and reads forms into memory, never to a disk."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from PIL import Image
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from lesion_exp.file_kind import image_format, kind_of, listed_formats
from lesion_exp.verbs.serve.settings import MEGABYTE, Settings

BUSY_SECONDS: Final = 1
"""Seconds after which a client that got status 429 may try again."""
FILE: Final = "file"
"""The field of the images."""
_LONGEST_VALUE: Final = 200
"""Largest size of a field that is no file, bytes."""
_LONGEST_NAME: Final = 200
"""Characters of a file's name that are repeated in answers."""


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A refused request: the answer is `{"error": message}` with a status between 400 and 499."""

    def __init__(self, status: int, message: str) -> None:
        assert 400 <= status <= 499, "only a mistake of the client is a refusal"
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {"Retry-After": str(BUSY_SECONDS)} if self.status == 429 else {}


class Intake:
    """Counts the requests, images and bytes in work. It belongs to one event loop and needs no lock."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests = 0
        self.images = 0
        self.bytes = 0

    @contextmanager
    def request(self) -> Iterator[Upload]:
        """Counts a request until the end of the block, before anything of it is read.

        Raises:
            Refusal: with status 429 if too many requests or images are in work.
        """
        if self.requests >= self.settings.queue or self.images >= self.settings.queue:
            raise Refusal(429, f"expected fewer requests at once: {self.requests} are being answered; try again soon")
        self.requests += 1
        upload = Upload(self)
        try:
            yield upload
        finally:
            self.requests -= 1
            self.images -= upload.images
            self.bytes -= upload.bytes


class Upload:
    """Counts the images and bytes of one request."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.images = 0
        self.bytes = 0

    def add_bytes(self, count: int) -> None:
        """Adds `count` bytes.

        Raises:
            Refusal: as `check_room`.
        """
        self.check_room(count)
        self.bytes += count
        self._intake.bytes += count

    def check_room(self, count: int) -> None:
        """Checks that `count` more bytes are allowed.

        Raises:
            Refusal: with status 413 for more than a request may have, 429 for more than all requests may have.
        """
        settings = self._intake.settings
        if self.bytes + count > settings.max_upload_bytes:
            raise Refusal(
                413, f"expected at most {settings.max_upload_mb:g} MiB a request, got more; send fewer images"
            )
        if self._intake.bytes + count > settings.max_waiting_mb * MEGABYTE:
            raise Refusal(429, "expected fewer uploads at once: the memory for uploads is full; try again soon")

    def add_images(self, count: int) -> None:
        """Adds `count` images.

        Raises:
            Refusal: with status 422 for more than a request may have, 429 for more than all requests may have.
        """
        settings = self._intake.settings
        if count > settings.max_images:
            raise Refusal(422, f"expected at most {settings.max_images} images a request, got {count}; send several")
        if self._intake.images + count > settings.queue:
            raise Refusal(
                429, f"expected fewer images at once: {self._intake.images} of {settings.queue} wait; try again soon"
            )
        self.images += count
        self._intake.images += count


LONGEST_SHAPE: Final = 10
"""Largest ratio of the longer to the shorter side: the network sees a square, to which a strip would be stretched."""
MOST_SCANS: Final = 100
"""Largest number of scans in a progressive JPEG, which usually has ten. A scan of few bytes costs a pass over all
pixels."""
_SCAN: Final = b"\xff\xda"


def check_picture(encoded: bytes, name: str, max_pixels: int) -> int:
    """Checks whether an image file may be decoded, by its first bytes and its header.

    Args:
        encoded: the file.
        name: its name, for messages.
        max_pixels: largest number of pixels.

    Returns:
        Its number of pixels.

    Raises:
        Refusal: with status 415 if the format is unknown, 413 if there are too many pixels, 422 if the header is
            broken or the shape is not that of a photograph.
    """
    kind = image_format(encoded)
    if kind is None:
        raise Refusal(415, f"expected a {listed_formats()} file, but {name} is {kind_of(encoded)}; convert it")
    width, height = _size(encoded, kind, name, max_pixels)
    if width * height > max_pixels:
        raise Refusal(
            413, f"expected at most {max_pixels:,} pixels, but {name} has {width:,} x {height:,}; scale it down first"
        )
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        raise Refusal(
            422,
            f"expected a photograph, at most {LONGEST_SHAPE} times as long as it is wide, but {name} has {width:,} x "
            f"{height:,} pixels; crop it",
        )
    if kind == "JPEG" and encoded.count(_SCAN) > MOST_SCANS:
        raise Refusal(
            422,
            f"expected at most {MOST_SCANS} scans in a JPEG file, but {name} has more; save it again",
        )
    return width * height


def _size(encoded: bytes, kind: str, name: str, max_pixels: int) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(encoded), formats=[kind]) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise Refusal(
            413, f"expected at most {max_pixels:,} pixels, but {name} has far more; scale it down first"
        ) from error
    except Exception as error:  # Pillow's readers raise whatever a broken file provokes
        raise Refusal(
            422, f"expected a complete image, but the header of {name} ({kind}) cannot be read; send the whole file"
        ) from error


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
            raise Refusal(
                422, f"expected {part.name} at most once for each image, got it more than {self._max_images} times"
            )

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

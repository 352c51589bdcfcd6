"""How much a server has taken on, so that it refuses more before its memory is full."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import Image

from lesion_exp.file_kind import image_format, kind_of, listed_formats
from lesion_exp.verbs.serve.settings import MEGABYTE, Settings

BUSY_SECONDS: Final = 1
"""After which a client that was refused as too many may try again."""


class Refusal(Exception):  # noqa: N818 - it is an answer
    """Becomes the answer `{"error": message}` with a status between 400 and 499."""

    def __init__(self, status: int, message: str) -> None:
        assert 400 <= status <= 499, "what is not the client's doing is no refusal"
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the answer."""
        return {"Retry-After": str(BUSY_SECONDS)} if self.status == 429 else {}


class Intake:
    """Counts requests, images and bytes; for one event loop, hence without a lock."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests = 0
        self.images = 0
        self.bytes = 0

    @contextmanager
    def request(self) -> Iterator[Upload]:
        """Room for a request, before anything of it is read.

        Raises:
            Refusal: 429, too many are being read or answered.
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
    """What one request has brought so far."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.images = 0
        self.bytes = 0

    def add_bytes(self, count: int) -> None:
        """Counts `count` bytes more.

        Raises:
            Refusal: as `check_room`.
        """
        self.check_room(count)
        self.bytes += count
        self._intake.bytes += count

    def check_room(self, count: int) -> None:
        """Checks that there is room for `count` bytes more.

        Raises:
            Refusal: 413, more than a request may have; 429, more than all may have at once.
        """
        settings = self._intake.settings
        if self.bytes + count > settings.max_upload_bytes:
            raise Refusal(
                413, f"expected at most {settings.max_upload_mb:g} MiB a request, got more; send fewer images"
            )
        if self._intake.bytes + count > settings.max_waiting_mb * MEGABYTE:
            raise Refusal(429, "expected fewer uploads at once: the memory set aside for them is full; try again soon")

    def add_images(self, count: int) -> None:
        """Counts `count` images.

        Raises:
            Refusal: 422, more than a request may have; 429, more than all may have at once.
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
"""Longer side over shorter side, at most: the network sees a square, to which a thin strip would be blown up."""
MOST_SCANS: Final = 100
"""Of a progressive JPEG, which usually has ten: each is a pass over all its pixels, and costs but a few bytes."""
_SCAN: Final = b"\xff\xda"


def check_picture(encoded: bytes, name: str, max_pixels: int) -> int:
    """How many pixels `encoded` has, if it may be decoded; only its first bytes and its header are looked at.

    Raises:
        Refusal: 415, no image of a known format; 413, too many pixels; 422, a broken header or a shape that is none of
            a photograph. `name` says which upload it is.
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
            f"{height:,} pixels; cut it",
        )
    if kind == "JPEG" and encoded.count(_SCAN) > MOST_SCANS:
        raise Refusal(422, f"expected at most {MOST_SCANS} scans in a JPEG file, but {name} has more; save it anew")
    return width * height


def _size(encoded: bytes, kind: str, name: str, max_pixels: int) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(encoded), formats=[kind]) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"expected at most {max_pixels:,} pixels, but {name} has far more") from error
    except Exception as error:  # Pillow's readers raise whatever a broken file provokes
        raise Refusal(422, f"expected a whole image, but the header of {name} ({kind}) cannot be read") from error

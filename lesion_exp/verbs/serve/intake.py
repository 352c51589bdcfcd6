"""How much a server has taken on, so that it refuses more before its memory is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lesion_exp.verbs.serve.refusal import Refusal
from lesion_exp.verbs.serve.settings import MEGABYTE, Settings


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

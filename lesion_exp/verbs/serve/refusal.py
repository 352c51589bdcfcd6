"""A request that is not answered, by its client's doing."""

from __future__ import annotations

from typing import Final

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

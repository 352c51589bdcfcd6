"""How the schema of the API describes the form that `/predict` takes."""

from __future__ import annotations

from typing import Any, Final

from lesion_exp.file_kind import FORMATS
from lesion_exp.verbs.serve.form import FILE
from lesion_exp.verbs.serve.prediction import NOT_KNOWN, OLDEST, Prediction

FORM_TYPE: Final = "multipart/form-data"


def form_schema(prediction: Prediction) -> dict[str, Any]:
    """The media type object of the form: the images, and what the network reads beside them."""
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

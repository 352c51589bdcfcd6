"""Joins the pictures of a run into the one that the README shows.

python scripts/readme/make_picture.py ARTIFACTS_OF_A_DEMO_RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH = 1400
GAP = 24


def fitted(path: Path, width: int) -> Image.Image:
    image = Image.open(path, formats=["PNG"]).convert("RGB")
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def with_own_palettes(sheet: Image.Image, seam: int) -> Image.Image:
    """The sheet in 256 colours, 96 of them for the figures below `seam` alone: skin must not tint their curves."""
    top = sheet.crop((0, 0, sheet.width, seam)).quantize(160)
    below = sheet.crop((0, seam, sheet.width, sheet.height)).quantize(
        96, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    joined = Image.new("P", sheet.size)
    joined.putpalette((top.getpalette() or [])[: 3 * 160] + (below.getpalette() or [])[: 3 * 96])
    joined.paste(top, (0, 0))
    joined.paste(below.point(lambda index: index + 160), (0, seam))
    return joined


def main() -> None:
    artifacts = Path(sys.argv[1])
    batch = fitted(artifacts / "dataset" / "batch.png", WIDTH)
    half = (WIDTH - GAP) // 2
    below = [fitted(artifacts / "confusion_matrix" / "test.png", round(1.12 * half))]
    below.append(fitted(artifacts / "curves" / "roc_test.png", WIDTH - GAP - below[0].width))
    sheet = Image.new("RGB", (WIDTH, batch.height + GAP + max(image.height for image in below)), "white")
    sheet.paste(batch, (0, 0))
    sheet.paste(below[0], (0, batch.height + GAP))
    sheet.paste(below[1], (below[0].width + GAP, batch.height + GAP))
    target = Path(__file__).with_name("run.png")
    with_own_palettes(sheet, batch.height + GAP // 2).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

"""A picture of what augmentation does to images."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from lesion_exp.image_file import UInt8Array


def preview_grid(
    images: Sequence[UInt8Array],
    augmented: Sequence[Sequence[UInt8Array]],
    titles: Sequence[str],
    caption: str = "",
) -> Figure:
    """A figure with a row an image: the original, then its augmented draws.

    Args:
        images: originals, uint8 (H, W, 3) RGB, of any size.
        augmented: for each original its draws, uint8 (S, S, 3); the same number for each.
        titles: a short name for each row, such as the class.
        caption: a line above the grid, such as the recipe's name.
    """
    assert images, "no image to show"
    assert len(images) == len(augmented) == len(titles), "a list of draws and a title for each image"
    num_draws = len(augmented[0])
    assert all(len(draws) == num_draws for draws in augmented), "the same number of draws for each image"
    tile = 1.55  # inches
    top = 0.62 if caption else 0.36
    width, height = tile * (num_draws + 1.45) + 0.3, tile * len(images) + top + 0.05
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
    cells = figure.subplots(
        len(images),
        num_draws + 1,
        squeeze=False,
        gridspec_kw={
            "width_ratios": [1.4, *[1.0] * num_draws],
            "wspace": 0.04,
            "hspace": 0.04,
            "left": 0.3 / width,
            "right": 1 - 0.05 / width,
            "top": 1 - top / height,
            "bottom": 0.05 / height,
        },
    )
    for row, (original, draws, title) in enumerate(zip(images, augmented, titles, strict=True)):
        for column, pixels in enumerate([original, *draws]):
            axes = cells[row, column]
            axes.imshow(pixels, interpolation="lanczos" if max(pixels.shape) > 300 else "bilinear")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        cells[row, 0].set_ylabel(title, fontsize=9, color="#333333", parse_math=False)
    heads = ["original", *[f"draw {number}" for number in range(1, num_draws + 1)]]
    for axes, head in zip(cells[0], heads, strict=True):
        axes.set_title(head, fontsize=8, color="#777777", pad=4)
    if caption:
        place = {"x": 0.3 / width, "y": 1 - 0.12 / height, "ha": "left", "va": "top"}
        figure.suptitle(caption, fontsize=11, color="#222222", parse_math=False, **place)
    return figure

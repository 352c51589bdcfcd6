import numpy as np

from lesion_exp.evaluation.figures.gallery import Block, saliency_gallery


def test_images_lie_in_a_grid_below_their_captions(tmp_path):
    picture = np.full((8, 8, 3), 200, dtype=np.uint8)
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:5, 2:5] = True
    rows = [("image", [picture] * 2), ("saliency", [picture] * 2)]
    blocks = [Block("right (2 of 9)", ["a", "b"], rows, [mask, None]), Block("wrong", [], [], [], empty="none")]
    figure = saliency_gallery(blocks, "nv", columns=2)
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "", ""]
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[number + 1 :])
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    said = {text.get_text() for text in figure.texts}
    assert {"nv", "right (2 of 9)", "wrong: none", "image", "saliency"} <= said
    figure.savefig(tmp_path / "gallery.png")

from __future__ import annotations

import pytest

from lesion_exp.dataset.image_names import asks_for_masks, mask_of, split_masks


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("GroundTruth/X001.png", "X001"),
        ("seg.zip!/HAM10000_segmentations_lesion_tschandl/ISIC_1_segmentation.png", "ISIC_1"),
        ("ISIC2018_Task1_Training_GroundTruth/ISIC_0.png", "ISIC_0"),
        ("nv/X_mask.png", "X"),
        ("nv/X_superpixels.png", "X"),
        ("mask_images/X.jpg", "X"),
        ("TrainingMasks/x.png", "x"),
        ("IMD002/IMD002_lesion/IMD002_lesion.bmp", "IMD002"),
        ("IMD002/IMD002_roi/IMD002_R1_Label4.bmp", "IMD002"),
        ("X/mask.png", "X"),
        ("nv/X_Segmentation.PNG", "X"),
        ("nv/Masken/X.png", "X"),
        ("nv/seg/X.png", "X"),
        ("nv/IMD002mask.png", "IMD002"),
        ("nv/IMD002_binary.png", "IMD002"),
        ("nv/othermask.png", None),
        ("segment_1/x.jpg", None),
        ("nv/x.png", None),
        ("images_and_masks.zip!/X.jpg", None),
        ("brand/x.jpg", None),
        ("damask/x.jpg", None),
        ("nv/IMD002_lesion.jpg", None),
        ("nv/other_lesion.png", None),
    ],
)
def test_masks_are_told_by_names_and_folders(path: str, image: str | None) -> None:
    assert mask_of(path, {"imd002"}) == image


def test_patterns_ask_for_masks_by_name_only() -> None:
    asking = [each for each in ("*", "*.png", "images/*", "*_mask.png", "GroundTruth/*") if asks_for_masks(each)]
    assert asking == ["*_mask.png", "GroundTruth/*"]


def test_images_and_masks_are_parted() -> None:
    assert split_masks(["a/X.jfif", "a/X.txt", "m/X_mask.png"]) == (["a/X.jfif"], ["m/X_mask.png"])

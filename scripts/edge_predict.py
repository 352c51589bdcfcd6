"""Predicts photographs with an exported network and ONNX Runtime alone, without torch and lesion_exp.

    pip install numpy pillow onnxruntime
    python edge_predict.py exported/model.onnx photograph.jpg ...

For files of `lesion-exp export format=onnx` (or onnx_int8) with preprocessing=inside. Research use only.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # Pillow's others, PostScript among them, are never tried


def main(model: str, *photographs: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    classes, names = json.loads(facts["classes"]), json.loads(facts["class_names"])
    if list(json.loads(facts["inputs"])) != ["images"] or json.loads(facts["preprocessing"])["where"] != "inside":
        sys.exit("expected a network that reads photographs alone, no metadata, exported with preprocessing=inside")
    print(facts["use"], file=sys.stderr)
    for path in photographs:
        try:
            pixels = read(path)
        except Exception as error:  # Pillow's readers raise whatever a broken file provokes
            print(json.dumps({"image": path, "error": str(error)}))
            continue
        probs = session.run(["probabilities"], {"images": pixels[None]})[0][0]
        best = int(probs.argmax())
        result = {"image": path, "prediction": classes[best], "name": names[classes[best]]}
        print(json.dumps(result | {f"p_{name}": float(p) for name, p in zip(classes, probs, strict=True)}))


def read(path: str) -> np.ndarray:
    if not Path(path).is_file():
        raise ValueError("expected a regular file, got none, or a folder, pipe or device")
    with Image.open(path, formats=FORMATS) as image:  # any size; upright and on white, as it was in training
        bits = max(getattr(image, "tag_v2", {}).get(258, (8,)))
        if bits > 8 or image.mode.startswith(("I", "F")) or (image.format == "PNG" and ";16" in str(image.tile)):
            raise ValueError("expected 8 bits a channel, got more: which value is white is not known; convert it first")
        upright = ImageOps.exif_transpose(image).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB"))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)

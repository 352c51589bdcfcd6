"""What an exported network says of photographs, with ONNX Runtime alone: no torch, nothing of lesion_exp.

    pip install numpy pillow onnxruntime
    python edge_predict.py exported/model.onnx photograph.jpg ...

For files of `lesion-exp export format=onnx` (or onnx_int8) with preprocessing=inside. Research use only.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


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
        except (OSError, ValueError) as error:
            print(json.dumps({"image": path, "error": str(error)}))
            continue
        probs = session.run(["probabilities"], {"images": pixels[None]})[0][0]
        best = int(probs.argmax())
        result = {"image": path, "prediction": classes[best], "name": names[classes[best]]}
        print(json.dumps(result | {f"p_{name}": float(p) for name, p in zip(classes, probs, strict=True)}))


def read(path: str) -> np.ndarray:
    with Image.open(path) as image:  # any size; upright and on white, as it was in training
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"expected 8 bits a channel, got {image.mode}, which Pillow would clip; convert it first")
        upright = ImageOps.exif_transpose(image).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB"))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)

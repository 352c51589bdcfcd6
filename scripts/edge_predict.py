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
        sys.exit("expected a file that takes photographs alone; export it with preprocessing=inside")
    print(facts["use"], file=sys.stderr)
    for path in photographs:
        with Image.open(path) as image:  # any size; upright, as it was in training
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.uint8)
        probs = session.run(["probabilities"], {"images": pixels[None]})[0][0]
        best = int(probs.argmax())
        result = {"image": path, "prediction": classes[best], "name": names[classes[best]]}
        print(json.dumps(result | {f"p_{name}": float(p) for name, p in zip(classes, probs, strict=True)}))


if __name__ == "__main__":
    main(*sys.argv[1:])

import base64
import io
import itertools
import json
import logging
import math
import time
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from lesion_exp.evaluation.answer_rates import AnswerRates, Rate, answer_rates
from lesion_exp.evaluation.predictions import probabilities
from lesion_exp.verbs.serve.answers import answered, malignant_share
from lesion_exp.verbs.serve.intake import Refusal
from lesion_exp.verbs.serve.prediction import _age
from lesion_exp.verbs.serve.served_model import (
    EDGES,
    NAMES,
    ServedModel,
    ServedPrediction,
    confidence_level,
    confidence_sentence,
    malignant_sentence,
)
from tests.verbs.report.conftest import CLASSES, predicted
from tests.verbs.serve.conftest import files, picture, serving

MULTIPART = {"content-type": "multipart/form-data; boundary=y"}


def test_probabilities_are_those_of_predict_calibrated_and_sets_those_of_the_network(client, model):
    encoded = [picture(seed=seed) for seed in range(3)]
    answer = client.post("/predict", files=files(*encoded)).json()
    raw = probabilities(model.predictor.predict_files(encoded, ["a", "b", "c"]))
    calibrated = model.calibrator.apply(raw)
    assert np.abs(calibrated - raw).max() > 1e-3
    for row, image in enumerate(answer["images"]):
        assert image["image"] == f"{row}.png"
        np.testing.assert_allclose([image["probabilities"][name] for name in CLASSES], calibrated[row], atol=1e-6)
        assert image["prediction"] == CLASSES[calibrated[row].argmax()]
        assert image["probability"] == max(image["probabilities"].values())
        members = {name for name, inside in zip(CLASSES, model.conformal.sets(raw)[row], strict=True) if inside}
        assert set(image["conformal_set"]) == members
        assert image["malignant_probability"] == pytest.approx(image["probabilities"]["mel"])
        assert image["gradcam"] is None
        assert image["error"] is None
    assert answer["calibration"] == "temperature"
    assert "Research use only" in answer["notice"]


def test_heat_maps_are_pictures_of_the_square_on_request(client):
    answer = client.post("/predict?gradcam=true", files=files(picture(), picture(seed=1))).json()
    for image in answer["images"]:
        drawn = [Image.open(io.BytesIO(base64.b64decode(image["gradcam"][name]))) for name in ("seen", "heat_map")]
        assert [entry.format for entry in drawn] == ["PNG", "PNG"]
        assert drawn[0].size == drawn[1].size == (224, 224)
        assert image["gradcam"]["of"] == image["prediction"]
        assert np.abs(np.asarray(drawn[0], dtype=float) - np.asarray(drawn[1], dtype=float)).max() > 10


def test_one_broken_image_among_others_has_its_reason(client):
    answer = client.post("/predict", files=files(picture(), b"no image", picture(seed=1)[:-40]))
    assert answer.status_code == 200
    first, second, third = answer.json()["images"]
    assert first["error"] is None
    assert "1.png is a text file" in second["error"]
    assert "2.png cannot be decoded" in third["error"]
    assert second["prediction"] is None


def test_one_image_of_another_type_is_a_row_and_nothing_but_such_is_refused(client):
    gif = picture("gif")
    answer = client.post("/predict", files=files(gif, picture()))
    assert answer.status_code == 200
    first, second = answer.json()["images"]
    assert "0.png is a GIF file" in first["error"]
    assert second["error"] is None
    assert client.post("/predict", files=files(gif, b"")).status_code == 415
    mixed = client.post("/predict", files=files(gif, picture()[:-40]))
    assert mixed.status_code == 422
    assert "0.png is a GIF file" in mixed.json()["error"]
    assert "1.png cannot be decoded" in mixed.json()["error"]


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"files": files(b"no image")}, 415, "is a text file"),
        ({"files": files(picture()[:-40])}, 422, "cannot be decoded"),
        ({"files": files(picture(), *[b"x"] * 16)}, 422, "16 images"),
        ({"data": {"file": ""}, "files": {}}, 415, "multipart"),
        ({"files": {"other": picture()}}, 422, "fields file"),
        ({"files": files(picture()), "data": {"age": "40"}}, 422, "fields file"),
        ({"files": files(picture()), "params": {"gradcm": "true"}}, 422, "gradcam="),
        ({"files": files(picture()), "params": {"gradcam": "perhaps"}}, 422, "gradcam"),
        ({"content": b"x", "headers": MULTIPART}, 400, "parts"),
        (
            {"content": b"--y--\r\n", "headers": {"content-type": "multipart/form-data; boundary=y"}},
            422,
            "at least one",
        ),
        ({"content": b"--y", "headers": MULTIPART}, 400, "early"),
        ({"content": b"x", "headers": {"content-type": f"multipart/form-data; boundary={'y' * 300}"}}, 400, "shorter"),
        ({"files": files(picture()), "headers": {"content-encoding": "gzip"}}, 415, "compressed"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(client, sent, status, said):
    answer = client.post("/predict", **sent)
    assert answer.status_code == status
    assert answer.json()["error"].startswith("expected")
    assert said in answer.json()["error"]


def test_large_bodies_are_refused_whether_they_say_so_or_not(model, examples):
    with serving(model, examples, max_upload_mb=0.01) as client:
        large = picture("bmp")
        assert client.post("/predict", files=files(large)).status_code == 413
        body = b"--y\r\ncontent-disposition: form-data; name=file; filename=a\r\n\r\n" + large + b"\r\n--y--\r\n"
        silent = client.post("/predict", content=iter([body[:5000], body[5000:]]), headers=MULTIPART)
        assert silent.status_code == 413
        assert client.prediction.intake.bytes == 0


def test_a_bomb_is_refused_before_it_is_unpacked(model, examples):
    with serving(model, examples, max_pixels=10_000) as client:
        assert client.post("/predict", files=files(picture(size=(200, 100)))).status_code == 413


def test_too_slow_is_a_refusal(model, examples, monkeypatch):
    with serving(model, examples, timeout_s=0.05) as client:
        monkeypatch.setattr(client.prediction, "_prepared", lambda *given: time.sleep(0.3))
        assert client.post("/predict", files=files(picture())).status_code == 429


def test_more_than_the_queue_holds_is_refused_with_a_time_to_try_again(model, examples):
    with serving(model, examples, queue=2, max_images=2) as client, client.prediction.intake.request() as other:
        other.add_images(1)
        answer = client.post("/predict", files=files(picture(), picture()))
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert client.post("/predict", files=files(picture())).status_code == 200


def test_a_failure_shows_nothing_of_the_inside_and_logs_nothing_of_the_image(model, examples, monkeypatch, caplog):
    with serving(model, examples) as client:

        def fail(*given):
            raise RuntimeError("secret path")

        monkeypatch.setattr(model, "answer", fail)
        with caplog.at_level(logging.INFO):
            answer = client.post("/predict", files=[("file", ("Jane Doe.png", picture(), "image/png"))])
        assert answer.status_code == 500
        assert "content-security-policy" in answer.headers
        assert set(answer.json()) == {"error"}
        assert "secret" not in answer.text
        assert "Jane" not in caplog.text


def test_names_of_files_are_in_no_log(client, caplog):
    with caplog.at_level(logging.DEBUG, logger="lesion_exp"):
        client.post("/predict", files=[("file", ("Jane Doe.png", b"broken", "image/png"))])
        client.get("/Jane%20Doe?Jane=Doe")
    assert "POST /predict 415" in caplog.text
    assert "Jane" not in caplog.text


def test_metadata_is_read_once_for_all_or_once_for_each(model_with_metadata, examples):
    with serving(model_with_metadata, examples) as client:
        same = files(picture(), picture())

        def shares(data):
            answer = client.post("/predict", files=same, data=data)
            assert answer.status_code == 200, answer.text
            return [tuple(image["probabilities"].values()) for image in answer.json()["images"]]

        unknown = shares({})
        assert unknown[0] == pytest.approx(unknown[1])
        once = shares({"age": "80", "sex": "male", "site": "face"})
        assert once[0] == pytest.approx(once[1])
        assert once[0] != pytest.approx(unknown[0], abs=1e-4)
        each = shares({"age": ["80", "20"], "sex": ["male", "female"], "site": ["face", "back"]})
        assert each[0] == pytest.approx(once[0], abs=1e-5)
        assert each[1] != pytest.approx(once[1], abs=1e-4)
        for data, said in (({"age": "old"}, "years"), ({"age": "nan"}, "years"),
                           ({"age": "1_0"}, "years"), ({"sex": "mal"}, "'male'"),
                           ({"site": ["face"] * 3}, "once for each")):  # fmt: skip
            refused = client.post("/predict", files=same, data=data)
            assert refused.status_code == 422
            assert said in refused.json()["error"]


def test_the_key_is_asked_for_where_there_is_one(model, examples):
    with serving(model, examples, api_key="k-1") as client:
        for path in ("/model", "/metrics"):
            assert client.get(path).status_code == 401
        assert client.post("/predict", files=files(picture())).status_code == 401
        assert client.get("/model", headers={"X-API-Key": "other"}).status_code == 401
        assert client.get("/model", headers={"X-API-Key": "k€y".encode()}).status_code == 401
        assert client.get("/model", headers={"X-API-Key": "k-1"}).status_code == 200
        assert client.get("/model", headers={"Authorization": "Bearer k-1"}).status_code == 200
        for path in ("/health", "/", "/docs", "/openapi.json", "/examples"):
            assert client.get(path).status_code == 200
        operations = client.get("/openapi.json").json()["paths"]
        assert operations["/predict"]["post"]["security"]
        assert "security" not in operations["/health"]["get"]


def test_every_answer_has_the_headers_of_safety(client):
    for answer in (client.get("/"), client.get("/nothing"), client.post("/predict"), client.get("/health")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_pages_cannot_post(client, site):
    answer = client.post("/predict", files=files(picture()), headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:3000", "https://localhost.evil.example:8000", "file://",
     "http://localhost:8000.evil.example", "http://127.0.0.1:8000", "", "chrome-extension://abc"],
)  # fmt: skip
def test_other_origins_are_refused_without_sec_fetch(client, origin):
    for answer in (
        client.post("/predict", files=files(picture()), headers={"Origin": origin}),
        client.get("/model", headers={"Origin": origin}),
    ):
        assert answer.status_code == 403
        assert "another site" in answer.json()["error"]


def test_the_own_origin_is_answered(client):
    for origin in ("http://localhost:8000", "HTTP://LOCALHOST:8000"):
        assert client.get("/model", headers={"Origin": origin}).status_code == 200
    for host, origin in (("localhost", "http://localhost:80"), ("localhost:443", "https://localhost")):
        assert client.get("/health", headers={"Host": host, "Origin": origin}).status_code == 200
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200, "a link on another page"


def test_only_names_of_this_server_are_answered(model, examples):
    local = ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "127.9.9.9", "localhost.")
    foreign = ("evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.5:8000", "127.0.0.1.nip.io",
               "localhost@evil.example", "a b", "", "0.0.0.0", "[::1", "2130706433", "testserver")  # fmt: skip
    with serving(model, examples) as client:
        for host in local:
            assert client.get("/health", headers={"Host": host}).status_code == 200, host
        for host in foreign:
            for path in ("/health", "/", "/model", "/examples", "/nothing"):
                answer = client.get(path, headers={"Host": host})
                assert answer.status_code == 403, host
                assert "allowed_hosts=NAME" in answer.json()["error"]
    with serving(model, examples, host="Skin.example", allowed_hosts=("derm.example",)) as client:
        for host in ("skin.example:8000", "derm.example", "localhost"):
            assert client.get("/health", headers={"Host": host}).status_code == 200, host
        assert client.get("/health", headers={"Host": "other.example"}).status_code == 403
        proxied = {"Host": "localhost:8000", "Origin": "https://derm.example"}
        assert client.post("/predict", files=files(picture()), headers=proxied).status_code == 200
    with serving(model, examples, host="0.0.0.0") as client:  # the test's client says that it came to `testserver`
        assert client.get("/health", headers={"Host": "localhost"}).status_code == 200
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403


def test_wrong_ways_are_answered_in_the_same_form(client):
    assert client.get("/nothing").json() == {"error": "Not Found"}
    refused = client.get("/predict")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"
    assert "error" in refused.json()
    assert client.get("/page/../settings.py").status_code == 404
    assert client.get("/page/%2e%2e/settings.py").status_code == 404


def test_the_page_names_files_of_this_server_alone(client):
    page = client.get("/").text
    assert "Research use only" in page
    for path in ("/", "/docs", "/page/app.js", "/page/result.js", "/page/docs.js", "/page/style.css"):
        text = client.get(path).text
        assert "https://" not in text
        assert "http://" not in text
    assert "<script>" not in page
    assert " style=" not in page


def test_examples_are_generated_and_can_be_predicted(client, examples):
    listed = client.get("/examples").json()
    assert [entry["drawn_as"] for entry in listed] == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    encoded = client.get("/" + listed[0]["address"])
    assert encoded.headers["content-type"] == "image/jpeg"
    assert client.post("/predict", files=files(encoded.content)).status_code == 200


def test_what_is_counted_says_nothing_of_a_client(client):
    client.post("/predict", files=files(picture()))
    client.get("/Jane")
    text = client.get("/metrics").text
    assert 'lesion_exp_requests_total{route="/predict",status="200"}' in text
    assert 'route="other",status="404"' in text
    assert "lesion_exp_batch_size_bucket" in text
    assert "Jane" not in text


def test_the_schema_describes_the_form(client, model_with_metadata, examples):
    form = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    properties = form["multipart/form-data"]["schema"]["properties"]
    assert list(properties) == ["file"]
    assert properties["file"]["type"] == "array"
    with serving(model_with_metadata, examples) as other:
        form = other.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
        assert form["multipart/form-data"]["schema"]["properties"]["sex"]["enum"] == ["female", "male", "", "unknown"]


def test_hostile_uploads_are_all_refused_and_never_a_failure(client):
    rng = np.random.default_rng(0)
    seeds = [picture(kind) for kind in ("png", "jpeg", "webp", "bmp", "tiff")]
    for _ in range(60):
        content = bytearray(seeds[rng.integers(len(seeds))])
        for place in rng.integers(0, len(content), 8):
            content[place] = rng.integers(256)
        answer = client.post("/predict", files=files(bytes(content[: rng.integers(1, len(content) + 1)])))
        assert answer.status_code in {200, 413, 415, 422}, answer.text
        json.loads(answer.text)
    assert client.get("/health").json()["images_waiting"] == 0


def test_confidence_in_words_follows_the_probability():
    assert [confidence_level(p) for p in (0.95, 0.9, 0.8, 0.6, 0.49)] == ["high", "high", "moderate", "low", "very low"]


def test_confidence_says_the_measured_rate_of_its_band_and_what_was_not_measured():
    rates = AnswerRates((None, Rate(11 / 35, 0.18, 0.48, 35, 30), Rate(0.5, 0.1, 0.9, 4, 4), None), None)
    said = confidence_sentence(0.52, rates)
    assert said == (
        "Low confidence (probability of 50% to 70%). Of 35 test images (30 lesions) with such a probability, the "
        "prediction was right in 31% (95% interval 18% to 48%)."
    )
    assert "too few to rely on" in confidence_sentence(0.81, rates)
    assert "No test image had such a probability" in confidence_sentence(0.95, rates)
    assert "was not measured" in confidence_sentence(0.95, None)
    assert "was not measured" in malignant_sentence(None)
    assert "was not measured" in malignant_sentence(rates)
    found = malignant_sentence(AnswerRates(rates.right, Rate(0.75, 0.6, 0.86, 44, 40)))
    assert "of 44 test images (40 lesions) of malignant lesions" in found
    assert "75% (95% interval 60% to 86%)" in found


def test_answers_carry_what_the_test_part_says_of_them(model, examples):
    rates = answer_rates(predicted(2), EDGES)
    tested = ServedModel(model.predictor, None, model.conformal, rates=rates)
    for place, top in itertools.product(range(3), (0.45, 0.6, 0.8, 0.95)):
        probs = np.full(3, (1 - top) / 2)
        probs[place] = top
        image = answered("a.png", tested, ServedPrediction(probs, np.ones(3, dtype=bool)), None).model_dump()
        rate = rates.right[NAMES.index(image["confidence"]["level"])]
        assert image["confidence"]["measured"] == asdict(rate)
        assert image["confidence"]["sentence"] == confidence_sentence(top, rates)
        is_benign = CLASSES[place] != "mel"
        assert image["malignant_sensitivity"] == (asdict(rates.malignant_sensitivity) if is_benign else None)
        assert image["caution"] == (malignant_sentence(rates) if is_benign else None)
    with serving(tested, examples) as client:
        answer = client.post("/predict", files=files(picture())).json()
    assert (answer["calibration"], answer["precision"]) == ("none", "32-true")


def test_malignant_classes_are_added_up_where_that_says_something():
    assert malignant_share({"bcc": 0.25, "mel": 0.5, "nv": 0.25}) == 0.75
    assert malignant_share({"benign": 0.25, "malignant": 0.75}) == 0.75
    assert malignant_share({"mel": 0.5, "bcc": 0.5}) is None
    assert malignant_share({"mine": 0.5, "mel": 0.25, "nv": 0.25}) is None


@pytest.mark.parametrize(("text", "age"), [("62", 62.0), ("62.5", 62.5), ("62,5", 62.5), ("unknown", math.nan)])
def test_an_age_may_have_a_decimal_comma(text, age):
    assert _age(text) == pytest.approx(age, nan_ok=True)


@pytest.mark.parametrize("text", ["1,062", "62,5,0", "-1", "131", "sixty"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(Refusal, match="expected age in years"):
        _age(text)

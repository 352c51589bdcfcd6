import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.verbs.serve.intake import Intake, Refusal
from lesion_exp.verbs.serve.settings import MEGABYTE, Settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"port": 70_000}, "port"), ({"max_images": 0}, "max_images"), ({"api_key": "k€y"}, "API key"),
        ({"max_upload_mb": float("nan")}, "max_upload_mb"),
        ({"timeout_s": -1.0}, "timeout_s"), ({"max_wait_ms": float("inf")}, "max_wait_ms"),
        ({"max_client_connections": 0}, "max_client_connections"),
        ({"allowed_hosts": ("http://a.org",)}, "allowed_hosts=skin.example.org"),
        ({"allowed_hosts": ("a.org:80",)}, "allowed_hosts"), ({"allowed_hosts": ("",)}, "allowed_hosts"),
        ({"max_images": 10, "queue": 5}, "queue"), ({"max_upload_mb": 300}, "max_waiting_mb"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_meant_are_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        Settings(**given)


def test_a_key_is_never_shown():
    assert "secret" not in repr(Settings(api_key="secret"))


@pytest.mark.parametrize(("host", "is_local"), [("127.0.0.1", True), ("::1", True), ("localhost", True),
                                                ("0.0.0.0", False), ("example.org", False)])  # fmt: skip
def test_only_loopback_is_local(host, is_local):
    assert Settings(host=host).is_local is is_local


def test_what_is_taken_on_is_given_back():
    intake = Intake(Settings(max_images=2, queue=3, max_upload_mb=1, max_waiting_mb=1.5))
    with intake.request() as first, intake.request() as second:
        first.add_images(2)
        first.add_bytes(MEGABYTE)
        for too_much, status in (
            (lambda: first.add_bytes(1), 413), (lambda: second.add_bytes(MEGABYTE), 429),
            (lambda: second.add_images(3), 422), (lambda: second.add_images(2), 429),
        ):  # fmt: skip
            with pytest.raises(Refusal) as caught:
                too_much()
            assert caught.value.status == status
        second.add_images(1)
        with pytest.raises(Refusal) as caught, intake.request():
            pass
        assert caught.value.headers == {"Retry-After": "1"}
    assert (intake.requests, intake.images, intake.bytes) == (0, 0, 0)

"""Counters of a server in the format of Prometheus; they contain no name, content or address of a client."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from lesion_exp.version import __version__

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Monitoring:
    """The counters of one server."""

    def __init__(self, run_id: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        info = Gauge("lesion_exp_info", "The server", ["version", "run_id"], registry=self.registry)
        info.labels(__version__, run_id).set(1)
        self.requests = Counter(
            "lesion_exp_requests", "Requests, by route and status", ["route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "lesion_exp_request_seconds", "Seconds from first byte to answer", ["route"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.images = Counter(
            "lesion_exp_images", "Images, by outcome: predicted, refused or failed", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.predictions = Counter(
            "lesion_exp_predictions", "Predicted images, by class", ["prediction"], registry=self.registry
        )
        self.batch_size = Histogram(
            "lesion_exp_batch_size", "Images in a batch of the network", buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )  # fmt: skip
        self.network_seconds = Histogram(
            "lesion_exp_network_seconds", "Seconds of the network for a batch", buckets=_SECONDS, registry=self.registry
        )

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Adds a value that is read at every request for the counters."""
        Gauge(name, meaning, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """All counters, in the text format of Prometheus."""
        return generate_latest(self.registry)

"""The container engine and the images of the tests with containers."""

from __future__ import annotations

from tests.reconnect_harness.containers.conftest import engine, harness_image, proxy_image, toxiproxy_image

__all__ = ["engine", "harness_image", "proxy_image", "toxiproxy_image"]

"""The engine and the images, as the tests of the harness have them."""

from __future__ import annotations

from tests.reconnect_harness.containers.conftest import engine, harness_image, proxy_image, toxiproxy_image

__all__ = ["engine", "harness_image", "proxy_image", "toxiproxy_image"]

"""The locustfile of a load run without users of its own, for `locust` and for `reconnect-harness load`."""

from reconnect_harness.load import AwareUser, PlainUser

__all__ = ["AwareUser", "PlainUser"]

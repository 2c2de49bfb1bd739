"""The locustfile of a load run that brings no users of its own: `locust`, or `reconnect-harness load`, anywhere."""

from reconnect_harness.load import AwareUser, PlainUser

__all__ = ["AwareUser", "PlainUser"]

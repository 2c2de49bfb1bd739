"""Relays that are right, or wrong under one condition: what the shipped scenarios are tested against."""

"""Attacks from raw sockets, while two hundred bystanders talk through the same proxy."""

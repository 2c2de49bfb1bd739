"""Applications with protocols of their own, each with bugs that the environment variable BUG turns on."""

"""Tests of the core: no sockets, no tasks, and a clock that moves when it is told to."""

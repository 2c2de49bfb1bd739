"""The proxy judged from outside: a real process, real sockets, and peers written from the protocol alone."""

"""An embedded Toxiproxy: a server that speaks the HTTP API of Toxiproxy 2.12, for machines without the original.

    python -m reconnect_harness.toxiproxy.embedded --host 127.0.0.1 --port 8474

The names are the original's where the thing is the same: a `ToxicProxy` listens and dials; each of its connections is
two `ToxicLink`s, one for each direction; a link is a pipe with a `ToxicStub` for each toxic on it.

    __main__ -> api -> proxy -> connection -> link -> stub
                proxy -> toxics (what each toxic does)

Toxiproxy is at https://github.com/Shopify/toxiproxy. The docstrings say where this server differs from it on purpose.
"""

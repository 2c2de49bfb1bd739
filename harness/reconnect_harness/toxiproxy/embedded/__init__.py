"""An embedded Toxiproxy: a server that speaks the HTTP API of Toxiproxy 2.12, for machines without the original.

    python -m reconnect_harness.toxiproxy.embedded --host 127.0.0.1 --port 8474

The names are the original's where the thing is the same: a `ToxicProxy` listens and dials; each of its connections is
two `ToxicLink`s, one for each direction; a link is a pipe with a `ToxicStub` for each toxic on it; a `ToxicCollection`
keeps the toxics of a proxy and the links that they are on.

    __main__ -> server -> http, api -> proxies -> proxy -> collection, connection -> link -> stub -> toxic
                                                           collection -> registry -> latency, timeout, … -> toxic

Toxiproxy is at https://github.com/Shopify/toxiproxy. The docstrings say where this server differs from it on purpose.
"""

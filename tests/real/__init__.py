"""Real programs through the proxy: browsers, brokers, notebooks and client libraries, unmodified.

`make real` installs them into the user's cache (`install.py`) and runs the tests; `make test` leaves them out. Each
program has one file, with up to three questions:

| test | topology | what is asked |
| --- | --- | --- |
| pair | client - sender - cuts - receiver - server | the work goes on, and nothing is lost, repeated or reordered |
| one proxy | client - proxy - cuts - server | what docs/servers.md promises for the options that it gives |
| restart | client - proxy - server, which is killed and started again | the same |

Messages are numbered at the level of the program: calls of a page, events, MQTT publications, not frames.
"""

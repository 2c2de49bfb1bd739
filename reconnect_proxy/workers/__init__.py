"""`serve --workers N`: processes that share the port and together are one proxy.

                         supervisor: the port's listeners, signals, the admin listener, restarts
                        /     |     \\
               channel /      |      \\  questions, answers and notices (`channel`)
                      /       |       \\
    clients ─────► worker   worker   worker ─────► upstreams     each a whole proxy (`worker_proxy`) with its own loop
       SO_REUSEPORT  0 ◄─────► 1 ◄─────► 2
                     mailboxes: clients, with their sockets (`mailbox`, `handover`)

**Where a session lives.** In the worker that a hash of its id names (`placement`), so every worker knows where a
session is without asking. A worker draws ids until one is placed on itself, so the session of a client without an id
stays where the client connected. Only a client that brings an id may have connected to another worker. That worker
reads its head and hands it over: the socket itself goes through a Unix socket (SCM_RIGHTS), with what was read. Under
TLS the keys cannot go with it, so the worker that has the socket relays the data (`relay`).

**What they share.** The supervisor makes the listeners and the mailboxes and keeps them open. What waits in them when a
worker dies is served by the worker that replaces it. Counts for limits are in shared memory (`shared_counters`,
`addresses`), where each worker writes its own only. Everything else a worker has for itself. If it dies, its sessions
are lost; how many they were is in the shared memory, and is logged.
"""

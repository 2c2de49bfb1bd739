"""`serve --workers N`: processes that share the port, and are one proxy to whoever looks at it.

                         supervisor: the port's listeners, signals, the admin listener, restarts
                        /     |     \\
               channel /      |      \\  what it asks and tells them (`channel`)
                      /       |       \\
    clients ─────► worker   worker   worker ─────► upstreams     each a whole proxy (`colleague`) in a loop of its own
       SO_REUSEPORT  0 ◄─────► 1 ◄─────► 2
                        inboxes: clients, with their sockets (`inbox`, `handover`)

**Where a session lives.** In the worker that a hash of its id names (`homes`), so that whoever is asked for it knows
where it is without asking. An id that a worker makes is drawn until it falls on that worker: its session stays where
its client has come. Only a client that brings an id may have come to another worker. That one reads its head, and hands
it on: the socket itself goes through a Unix socket (SCM_RIGHTS), with what was read of it. Under TLS the keys cannot go
with it, so there the worker that has the socket passes on what comes through (`relay`).

**What they share.** The listeners and the inboxes are made by the supervisor, which keeps them: what waits in them when
a worker dies is served by the one that is started in its place. Numbers that limits are about are in shared memory
(`tallies`), where each writes only its own. All else a worker has for itself, and if it dies it takes its sessions
along; how many they were is in the shared memory, and said aloud.
"""

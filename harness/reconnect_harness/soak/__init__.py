"""The soak: sessions, faults and reconnects for as long as the user wants, and whether everything stays as it was.

    clients ──[client link]──► proxy ──[upstream link]──► upstream         each box is a process
      │                      ▲    │                         │
      │        probe ────────┘    │ samples: memory,        │    clients connect, talk, leave or vanish, and return
    ledger     (round trips)        descriptors, …        ledger
                                                                phases of faults, with quiet periods between them

Nothing grows with the time that it lasts: messages are judged as they arrive (`ledger_sink`), samples go to a file.

| module | what it does |
| --- | --- |
| `plan`, `testbed` | what is to be done; what is started for it |
| `soak` | the run, from the first footprint to the last |
| `clients`, `upstream`, `probe` | the programs at the ends, each a process |
| `ledger`, `ledger_sink` | the file of counters of an end; judges what arrives there |
| `fault_phases` | the faults |
| `samples`, `trend` | what is measured; whether it grows |
| `verdict` | the checks, and the verdict |
| `table`, `picture`, `cli` | the result as text and JSON; as a picture; the command |
"""

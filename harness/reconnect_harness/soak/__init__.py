"""A soak: sessions, faults and reconnects without end, for as long as one likes, and whether all stays as it was.

    guests ──[client link]──► proxy ──[upstream link]──► upstream          each box a process of its own
      │                     ▲    │                         │
      │       probe ────────┘    │ samples: memory,        │     guests come, talk, leave or vanish, come again
    ledger    (round trips)        descriptors, …        ledger
                                                                 weather: spells of faults, calms between them

Nothing grows with the time that it lasts: messages are judged as they arrive (`ledger`), samples go to a file.

| module | what it knows |
| --- | --- |
| `soak` | the run: what is started, in which order, and how it comes to its end |
| `guests`, `upstream`, `probe` | the programs at the ends, each a process |
| `ledger` | what an end has seen, in numbers |
| `weather` | the faults |
| `samples`, `trend` | what is measured; whether it grows |
| `verdict` | what it all comes to |
| `picture`, `cli` | how it looks; the command |
"""

"""`reconnect-harness bench`: this project's proxy and what one would take instead, measured side by side in one run.

    generator ──► contender ──► server          three processes; the contender has a core to itself
        └──────────── control ────────┘         what lets a one-way sender go on does not pass the contender

| word | meaning |
| --- | --- |
| contender | a system under test (`sut.base`), started for this; `direct` is none: what can be reached at most |
| case | one shape of traffic at one size and number of connections (`cases`) |
| round | every contender once in every case; rounds are what minimum, median and maximum are taken of |
| figure | what a case is measured by: CPU time, messages a second, latencies, memory a session (`figures`) |
| limit | what kept a case from going faster: the contender, the generator and the server, or waiting for each other |
| budget | a bound on the ratio of two figures of the same run (`budgets`) |
"""

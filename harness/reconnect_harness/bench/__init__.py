"""`reconnect-harness bench`: this project's proxy and its alternatives, measured side by side in one run.

    generator ──► contender ──► server          three processes; the contender has a core to itself
        └──────────── control ────────┘         flow control of one-way traffic does not pass the contender

| word | meaning |
| --- | --- |
| contender | a system under test (`sut.base`) that is started for this; `direct` has none, and shows what is possible |
| case | one shape of traffic at one size and number of connections (`cases`) |
| round | every contender once in every case; minimum, median and maximum are over rounds |
| figure | a number that a case is measured by: CPU time, messages a second, latencies, memory a session (`figures`) |
| bottleneck | what kept a case from going faster: the contender, the generator and the server, or round trips |
| budget | a bound on the ratio of two figures of the same run (`budgets`) |
"""

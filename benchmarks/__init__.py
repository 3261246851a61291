"""Measures how fast aiofs is, compared with C and its peers, and how long it blocks a loop.

    python -m benchmarks                  the comparison: all cases, in about ten minutes
    python -m benchmarks --list           the list of cases
    python -m benchmarks --only P1,P8     some of the cases
    pytest benchmarks --benchmark-only    the core's operations one by one

Quote only ratios of one run. The contenders are measured in turn, A B A B ..., each in a process
of its own, for at least five rounds. The files, from the lowest floor up:

    native/       the parts in C: the floor, a heartbeat's clock, threads that do I/O
    work.py       the work of one measurement
    contenders/   what is measured: C, aiofs, its peers, other programs
    heartbeat.py  measures the loop stall
    measure.py    measures one Python library, in a process of its own
    crowd.py      the same, with many requests in flight
    cases.py      the table of cases: work, contenders, goals
    compare.py    runs the rounds of a case
    report.py     makes the tables
"""

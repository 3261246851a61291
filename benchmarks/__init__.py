"""How fast aiofs is, beside C and beside its peers, and how long it holds a loop.

    python -m benchmarks                  the comparison: all cases, in about ten minutes
    python -m benchmarks --list           what the cases are
    python -m benchmarks --only P1,P8     some of them
    pytest benchmarks --benchmark-only    the core's operations one by one

Only ratios of one run are worth quoting: contenders are measured in turn, A B A B ..., each in a
process of its own, for at least five rounds. From the ground up:

    native/       what is in C: the floor, a heartbeat's clock, threads that do I/O
    work.py       what one measurement does
    contenders/   who does it: C, aiofs, its peers, other programs
    heartbeat.py  loop stall
    measure.py    one measurement of a Python library, in its own process
    crowd.py      the same for many requests outstanding
    cases.py      the table: work, contenders, goals
    compare.py    the rounds of a case
    report.py     tables
"""

"""Measures how fast aiofs is, compared with C and its peers, and how long it blocks a loop.

    python -m benchmarks                  the comparison: all cases, in about ten minutes
    python -m benchmarks --list           the list of cases
    python -m benchmarks --only P1,P8     some of the cases
    python -m benchmarks --save --readme  all cases; saves them, and the README's table and plot
    python -m benchmarks --brief          a first look at all goals, in under two minutes
    python -m benchmarks.steps            the system calls of one operation
    python -m benchmarks.growth           what an operation costs as there is more of something
    pytest benchmarks --benchmark-only    the core's operations one by one

Quote only ratios of one run. The contenders are measured in turn, A B A B ..., each in a process
of its own, for at least five rounds. What measures them is that of `aiofs bench`, in aiofs/bench.
The files here, from the lowest floor up:

    native/       programs in C for single goals
    contenders/   what is measured: C, aiofs, its peers, other programs
    crowd.py      measures aiofs with many requests in flight
    goals.py      the kinds of goals
    cases.py      the table of cases: work, contenders, goals
    compare.py    runs the rounds of a case
    report.py     makes the tables
    plot.py       draws the plot of the README
    readme.py     puts table and plot into the README
    steps.py      counts the system calls of one operation
    growth.py     measures what an operation costs as there is more of something, by growing.py
"""

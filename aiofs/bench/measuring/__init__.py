"""What runs in the process that measures one participant.

The modules here import nothing of aiofs outside this folder, but for `libraries/ours.py`. So a peer
is measured in a process without aiofs, also by an interpreter that aiofs is not built for.
`child.py` starts such a process. From the lowest up:

    data.py        the file of a measurement: its size, its bytes, how it is filled
    native.py      builds the parts in C: floor.c, the floor; beside.c, threads beside a loop
    cache.py       the page cache: loads and drops a file
    work.py        the work of one measurement
    libraries/     what is measured
    heartbeat.py   measures the loop stall
    spread.py      statistics
    measure.py     the passes of one measurement
"""

"""`aiofs bench`: measures aiofs beside C, fio and other libraries, by jobs as fio describes them.

Every participant runs in a process of its own, in turn, in several rounds: A B C, A B C, ... From
the lowest up:

    measuring/        what runs in the process of one participant
    programs.py       programs that are measured: the floor in C, fio
    running.py        runs one participant once
    participants.py   the participants, by the names that users write
    jobs.py           jobs: their keys, from the command line and from TOML
    places.py         the files of a run: what is made is removed, what was there is kept
    machine.py        describes the machine and the software
    rounds.py         runs the rounds of the jobs
    results.py        what was measured, as a document; JSON and CSV
    tables.py         the tables that are printed
    progress.py       the progress bar
    plots.py page.py  `aiofs bench report`: PNG files and a page
    command.py        the command
"""

"""How the end of a request is told: by signals, in threads, on loops, to those who await it."""

import asyncio
import contextvars
import errno
import gc
import os
import signal
import threading
import time

import pytest
from coroutines import counted_turns, failure, turns, wait
from support import (
    CONTENT,
    comes,
    end_of,
    eventually,
    failed,
    handling,
    python,
    reading,
    result,
    thread,
)

from aiofs import _core
from aiofs.aio import (
    AIO_CANCELED,
    SIGEV_LOOP,
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    aio_cancel,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    aiocb,
    sigevent,
    suspend,
)

REAL_TIME = signal.SIGRTMIN + 2


@pytest.fixture
def blocked():
    """A real-time signal that nobody handles, to be fetched by sigtimedwait (see conftest.py)."""
    yield REAL_TIME
    while signal.sigtimedwait([REAL_TIME], 0) is not None:
        pass


def on_loop(function, value=None):
    return sigevent(SIGEV_LOOP, 0, value, function)


def in_thread(function, value=None):
    return sigevent(SIGEV_THREAD, 0, value, function)


# ---- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1 << 20])
@pytest.mark.parametrize("value", [None, 0, 7, -1, 2**63 - 1])
def test_signal_is_queued_with_its_value(file, blocked, size, value):
    event = sigevent(SIGEV_SIGNAL, REAL_TIME, value)
    cb = aiocb(file, bytes(size), aio_sigevent=event)
    aio_write(cb)
    info = signal.sigtimedwait([REAL_TIME], 30)
    assert aio_error(cb) == 0
    assert info.si_signo == REAL_TIME
    assert info.si_code == -4  # SI_ASYNCIO
    assert (info.si_pid, info.si_uid) == (os.getpid(), os.getuid())
    assert not comes(REAL_TIME, 0.01)


def test_real_time_signals_come_once_for_each_request(file, pipe, blocked):
    event = sigevent(SIGEV_SIGNAL, REAL_TIME, 1)
    requests = [reading(pipe[0], 1, aio_sigevent=event) for _ in range(50)]
    requests += [reading(file, 1, aio_sigevent=event) for _ in range(50)]
    os.write(pipe[1], b"x" * 50)
    for _ in range(100):
        assert signal.sigtimedwait([REAL_TIME], 30).si_signo == REAL_TIME
    assert not comes(REAL_TIME, 0.02)
    assert [end_of(cb) for cb in requests] == [0] * 100


def test_status_is_final_when_the_signal_is_seen(pipe, blocked):
    for turn in range(100):
        cb = reading(pipe[0], 1, aio_sigevent=sigevent(SIGEV_SIGNAL, REAL_TIME, turn))
        os.write(pipe[1], b"x")
        signal.sigtimedwait([REAL_TIME], 30)
        assert aio_error(cb) == 0


def test_cancelled_and_failed_requests_are_signalled(pipe, blocked):
    event = sigevent(SIGEV_SIGNAL, REAL_TIME, 1)
    cancelled = reading(pipe[0], aio_sigevent=event)
    aio_cancel(pipe[0], cancelled)
    assert signal.sigtimedwait([REAL_TIME], 30) is not None
    assert aio_error(cancelled) == errno.ECANCELED
    bad = reading(987654, aio_sigevent=event)
    assert signal.sigtimedwait([REAL_TIME], 30) is not None
    assert aio_error(bad) == errno.EBADF
    sync = aiocb(pipe[0], aio_sigevent=event)
    aio_fsync(os.O_SYNC, sync)
    assert signal.sigtimedwait([REAL_TIME], 30) is not None
    assert not comes(REAL_TIME, 0.01)


def test_handler_of_the_program_runs(pipe):
    seen = []
    with handling(signal.SIGUSR1, lambda number, _: seen.append(number)):
        cb = reading(pipe[0], aio_sigevent=sigevent(SIGEV_SIGNAL, signal.SIGUSR1))
        os.write(pipe[1], b"x")
        eventually(lambda: seen == [signal.SIGUSR1])
        assert aio_error(cb) == 0


def test_signal_0_is_no_signal(file, pipe):
    cb = reading(file, aio_sigevent=sigevent(SIGEV_SIGNAL, 0, 3))
    assert result(cb) == 10
    waiting = reading(pipe[0], aio_sigevent=sigevent(SIGEV_SIGNAL))
    os.write(pipe[1], b"x")
    assert result(waiting) == 1


def test_refused_real_time_signals_are_sent_again():
    program = """
import os, resource, signal, time
from aiofs.aio import *
number = signal.SIGRTMIN + 2
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
read_end, write_end = os.pipe()
event = sigevent(SIGEV_SIGNAL, number, 1)
requests = [aiocb(read_end, bytearray(1), aio_sigevent=event) for _ in range(40)]
for cb in requests:
    aio_read(cb)
hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]
resource.setrlimit(resource.RLIMIT_SIGPENDING, (10, hard))
os.write(write_end, b"x" * 40)
for _ in range(40):
    assert signal.sigtimedwait([number], 30) is not None
time.sleep(0.05)
assert number not in signal.sigpending()
print([aio_error(cb) for cb in requests].count(0))
"""
    assert python(program) == "40\n"


# ---- threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 1 << 20])
def test_function_runs_once_in_a_thread_of_its_own(file, size):
    seen = []

    def function(value):
        seen.append((value, threading.get_ident(), aio_error(cb)))

    value = object()
    cb = aiocb(file, bytes(size), aio_sigevent=in_thread(function, value))
    aio_write(cb)
    eventually(lambda: seen)
    time.sleep(0.01)
    assert len(seen) == 1
    assert seen[0][0] is value
    assert seen[0][1] != threading.get_ident()
    assert seen[0][2] == 0


def test_every_function_has_a_fresh_thread(file):
    inside, go_on = threading.Barrier(11), threading.Event()

    def function(_):
        inside.wait(20)
        go_on.wait(20)

    requests = [reading(file, aio_sigevent=in_thread(function)) for _ in range(10)]
    inside.wait(20)  # all ten are in it at the same time
    go_on.set()
    assert [result(cb) for cb in requests] == [10] * 10


def test_cancelled_and_failed_requests_are_told_in_threads(pipe):
    told = []
    cancelled = reading(pipe[0], aio_sigevent=in_thread(told.append, "cancelled"))
    aio_cancel(pipe[0], cancelled)
    eventually(lambda: told == ["cancelled"])
    reading(987654, aio_sigevent=in_thread(told.append, "bad"))
    eventually(lambda: told == ["cancelled", "bad"])


def test_function_may_submit_the_next_request(file):
    finished = threading.Event()

    def function(cb):
        if cb.aio_offset == 100:
            finished.set()
            return
        cb.aio_offset += 1
        aio_read(cb)

    cb = aiocb(file, bytearray(10))
    cb.aio_sigevent = in_thread(function, cb)
    aio_read(cb)
    assert finished.wait(20)
    cb.aio_sigevent = None


def test_what_a_function_raises_in_its_thread_is_shown_and_harms_nothing(file, monkeypatch):
    shown = []
    monkeypatch.setattr("sys.unraisablehook", shown.append)
    cb = reading(file, aio_sigevent=in_thread(lambda value: 1 / value, 0))
    eventually(lambda: shown)
    assert shown[0].exc_type is ZeroDivisionError
    assert result(cb) == 10
    del shown[:]


def test_unknown_kind_and_none_are_told_nothing(file):
    for kind in (SIGEV_NONE, 77, -5):
        cb = reading(file, aio_sigevent=sigevent(kind, "no signal", "no value", "no function"))
        assert result(cb) == 10
        big = aiocb(file, bytearray(1 << 20), aio_sigevent=cb.aio_sigevent)
        aio_read(big)
        assert result(big) == len(CONTENT)


# ---- callbacks on the loop ----------------------------------------------------------------------


async def test_callback_runs_on_the_loop_after_the_call_with_a_final_status(file, pipe):
    told = asyncio.Queue()

    def function(cb):
        assert asyncio.get_running_loop() is loop
        told.put_nowait((cb, aio_error(cb)))

    loop = asyncio.get_running_loop()
    for fd, size in ((file, 10), (file, 1 << 20), (pipe[0], 10)):
        cb = aiocb(fd, bytearray(size))
        cb.aio_sigevent = on_loop(function, cb)
        aio_read(cb)
        assert told.empty()
        if fd == pipe[0]:
            os.write(pipe[1], b"x")
        assert await told.get() == (cb, 0)
        cb.aio_sigevent = None
    await turns(10)
    assert told.empty()


async def test_callbacks_come_in_the_order_of_the_ends(file):
    told = []
    pipes = [os.pipe() for _ in range(20)]
    requests = [
        reading(read_end, 1, aio_sigevent=on_loop(told.append, number))
        for number, (read_end, _) in enumerate(pipes)
    ]
    order = [(number * 7) % 20 for number in range(20)]
    for number in order:
        os.write(pipes[number][1], b"x")
        aio_suspend([requests[number]])
    while len(told) < 20:
        await asyncio.sleep(0)
    assert told == order
    told.clear()
    for number in range(20):
        reading(file, 1, aio_sigevent=on_loop(told.append, number))  # most end inside the call
    while len(told) < 20:
        await asyncio.sleep(0)
    assert sorted(told) == list(range(20))
    for fd in sum(pipes, ()):
        os.close(fd)


async def test_cancelled_and_failed_requests_call_back(pipe):
    told = asyncio.Queue()
    cancelled = reading(pipe[0], aio_sigevent=on_loop(told.put_nowait, 1))
    assert aio_cancel(pipe[0], cancelled) == AIO_CANCELED
    assert told.empty()
    assert await told.get() == 1
    reading(987654, aio_sigevent=on_loop(told.put_nowait, 2))
    reading(pipe[0], aio_offset=0, aio_sigevent=on_loop(told.put_nowait, 3))
    assert await told.get() == 2
    os.write(pipe[1], b"x")
    assert await told.get() == 3
    await turns(5)
    assert told.empty()


async def test_refused_call_calls_nobody_back(file):
    told = []
    cb = aiocb(file, bytearray(1), aio_reqprio=21, aio_sigevent=on_loop(told.append))
    failed(errno.EINVAL, aio_read, cb)
    await turns(10)
    assert told == []


async def test_callback_that_raises_goes_to_the_loop_and_stops_nobody(file, loop_errors):
    told = []

    def function(value):
        told.append(value)
        if value == 1:
            raise ZeroDivisionError

    for number in range(4):
        reading(file, aio_sigevent=on_loop(function, number))
    while len(told) < 4:
        await asyncio.sleep(0)
    assert told == [0, 1, 2, 3]
    assert [type(context["exception"]) for context in loop_errors] == [ZeroDivisionError]
    assert "sigev_notify_function" in loop_errors[0]["message"]


async def test_callback_may_submit_again(file, pipe):
    done = asyncio.Event()
    counted = []

    def function(cb):
        counted.append(aio_return(cb))
        if len(counted) == 500:
            done.set()
        else:
            cb.aio_buf = bytearray(1 if len(counted) % 3 else 1 << 19)
            aio_read(cb)

    cb = aiocb(file, bytearray(1))
    cb.aio_sigevent = on_loop(function, cb)
    aio_read(cb)
    await done.wait()
    assert len(counted) == 500
    cb.aio_sigevent = None


async def test_callback_runs_in_the_context_of_its_submission(file, pipe):
    variable = contextvars.ContextVar("variable", default="outside")
    told = asyncio.Queue()

    def function(_):
        told.put_nowait(variable.get())

    token = variable.set("at the call")
    reading(file, aio_sigevent=on_loop(function))
    reading(pipe[0], aio_sigevent=on_loop(function))
    variable.reset(token)
    assert await told.get() == "at the call"
    os.write(pipe[1], b"x")
    assert await told.get() == "at the call"


def test_callback_comes_to_the_loop_that_was_running_at_the_submission(new_loop, pipe):
    told = []
    one, other = new_loop(), new_loop()

    async def submit():
        function = on_loop(lambda _: told.append(asyncio.get_running_loop()))
        reading(pipe[0], 1, aio_sigevent=function)

    one.run_until_complete(submit())
    os.write(pipe[1], b"x")
    other.run_until_complete(asyncio.sleep(0.02))
    assert told == []
    one.run_until_complete(asyncio.sleep(0.02))
    assert told == [one]
    one.close()
    other.close()


def test_sigev_loop_without_a_running_loop_is_refused(pipe, file, new_loop):
    loop = new_loop()
    for fd in (file, pipe[0]):
        cb = aiocb(fd, bytearray(1), aio_sigevent=on_loop(print))
        with pytest.raises(RuntimeError):
            aio_read(cb)
        failed(errno.EINVAL, aio_error, cb)
    loop.close()


async def test_threads_beside_the_loop_cannot_submit_to_it(file):
    def work():
        with pytest.raises(RuntimeError):
            reading(file, aio_sigevent=on_loop(print))

    await asyncio.to_thread(work)


async def test_loop_is_woken_once_for_all_that_is_ready(pipe):
    requests = [reading(pipe[0], 1) for _ in range(100)]
    waiting = [asyncio.ensure_future(wait(cb)) for cb in requests]
    await turns(10)  # what earlier tests rang for is read
    os.write(pipe[1], b"x" * 100)
    aio_suspend([requests[-1]])  # the loop does not turn meanwhile
    eventually(lambda: wake_ups() == 1)  # the engine's own eventfd may be counted, until it is read
    assert await asyncio.gather(*waiting) == [1] * 100


def wake_ups():
    """What has been added to the eventfds of this process and not been read."""
    total = 0
    for fd in os.listdir("/proc/self/fdinfo"):
        try:
            with open(f"/proc/self/fdinfo/{fd}") as info:
                lines = info.read().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("eventfd-count:"):
                total += int(line.split()[1], 16)
    return total


async def test_ten_thousand_ends_do_not_hold_the_loop_up(pipe):
    read_end, write_end = pipe
    requests = [reading(read_end, 1) for _ in range(10_000)]
    told = []
    for cb in requests:
        cb.aio_sigevent = None
    for start in range(0, 10_000, 5_000):
        os.write(write_end, b"x" * 5_000)
        aio_suspend([requests[start + 4_999]])
    event = on_loop(told.append)
    beats = 0
    later = [aiocb(read_end, bytearray(1), aio_sigevent=event) for _ in range(5_000)]
    for cb in later:
        aio_read(cb)
    os.write(write_end, b"x" * 5_000)
    aio_suspend([later[-1]])
    while len(told) < 5_000:
        await asyncio.sleep(0)
        beats += 1
    assert beats >= 10
    assert [end_of(cb) for cb in requests] == [0] * 10_000


# ---- await --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 1 << 20])
async def test_await_gives_what_aio_return_gives_and_does_not_use_it_up(file, size):
    cb = aiocb(file, bytearray(size))
    aio_read(cb)
    assert await cb == min(size, len(CONTENT))
    assert await cb == min(size, len(CONTENT))
    assert aio_return(cb) == min(size, len(CONTENT))
    failed(errno.EINVAL, aio_return, cb)
    assert await cb == min(size, len(CONTENT))


async def test_await_of_a_finished_request_does_not_suspend(file):
    cb = reading(file)
    aio_suspend([cb])
    coroutine = wait(cb)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == 10


async def test_await_waits_for_the_end(pipe):
    cb = reading(pipe[0])
    asyncio.get_running_loop().call_later(0.01, os.write, pipe[1], b"hello")
    assert await cb == 5
    assert cb.aio_buf[:5] == b"hello"


async def test_await_raises_what_aio_return_raises(file, pipe):
    for fd, offset, number in ((987654, 0, errno.EBADF), (file, -1, errno.EINVAL)):
        cb = reading(fd, aio_offset=offset)
        for _ in range(2):
            assert (await failure(number, cb)).filename == fd
        failed(number, aio_return, cb)
    cb = reading(pipe[0])
    task = asyncio.ensure_future(wait(cb))
    await asyncio.sleep(0)
    aio_cancel(pipe[0], cb)
    await failure(errno.ECANCELED, task)


async def test_await_of_what_was_never_submitted_is_einval(file):
    await failure(errno.EINVAL, aiocb(file))


async def test_many_tasks_await_one_request(pipe):
    cb = reading(pipe[0])
    tasks = [asyncio.create_task(wait(cb)) for _ in range(10)]
    await asyncio.sleep(0)
    os.write(pipe[1], b"abc")
    assert await asyncio.gather(*tasks) == [3] * 10


def test_request_submitted_before_the_loop_ran_is_awaited(run, pipe, file):
    cb, done = reading(pipe[0]), reading(file)

    async def body():
        asyncio.get_running_loop().call_later(0.01, os.write, pipe[1], b"x")
        return await cb, await done

    assert run(body()) == (1, 10)


def test_request_submitted_on_a_loop_that_closed_is_awaited_on_the_next(new_loop, pipe):
    first, second = new_loop(), new_loop()

    async def submit():
        return reading(pipe[0])

    cb = first.run_until_complete(submit())
    first.close()
    threading.Timer(0.05, os.write, [pipe[1], b"x"]).start()  # the second loop sleeps by then
    assert second.run_until_complete(asyncio.wait_for(wait(cb), 20)) == 1
    second.close()


async def test_request_is_awaited_on_another_loop_in_another_thread(pipe, new_loop):
    cb = reading(pipe[0])
    results = []

    def elsewhere():
        loop = new_loop()
        results.append(loop.run_until_complete(asyncio.wait_for(wait(cb), 20)))
        loop.close()

    with_thread = asyncio.to_thread(elsewhere)
    task = asyncio.ensure_future(with_thread)
    here = asyncio.ensure_future(wait(cb))
    await asyncio.sleep(0.02)
    os.write(pipe[1], b"abc")
    await task
    assert (await here, results) == (3, [3])


def test_await_outside_a_loop_is_refused(pipe):
    cb = reading(pipe[0])
    coroutine = wait(cb)
    with pytest.raises(RuntimeError):
        coroutine.send(None)
    aio_cancel(pipe[0])


async def test_gather_and_wait_for_take_requests(file, pipe):
    requests = [reading(file, 10, aio_offset=n) for n in range(20)]
    assert await asyncio.gather(*map(wait, requests)) == [10] * 20
    waiting = reading(pipe[0])
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wait(waiting), 0.01)
    aio_suspend([waiting])
    assert aio_error(waiting) == errno.ECANCELED


async def test_cancelling_the_await_cancels_the_request(pipe):
    cb = reading(pipe[0])
    task = asyncio.ensure_future(wait(cb))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    aio_suspend([cb], 20)
    assert aio_error(cb) == errno.ECANCELED
    os.write(pipe[1], b"kept")
    assert os.read(pipe[0], 10) == b"kept"


async def test_cancelled_await_of_a_request_that_ends_all_the_same(file):
    """The kernel may be done before it hears of it: then the result stands."""
    for _ in range(50):
        cb = aiocb(file, bytes(1 << 20), aio_offset=len(CONTENT))
        aio_write(cb)
        task = asyncio.ensure_future(wait(cb))
        await asyncio.sleep(0)
        task.cancel()
        try:
            assert await task == 1 << 20
        except asyncio.CancelledError:
            pass
        aio_suspend([cb])
        assert aio_error(cb) in (0, errno.ECANCELED)
    os.truncate(file, len(CONTENT))


async def test_loop_breathes_while_a_coroutine_meets_finished_requests_only(file):
    """Counted in turns of the loop, not in time."""
    cb = aiocb(file, bytearray(8192))
    with counted_turns() as counted:
        for _ in range(3000):
            aio_read(cb)
            await cb
    assert len(counted) >= 3000 * 8192 // (8 << 20)


async def test_loop_breathes_while_a_coroutine_submits_and_waits_for_writes(tmp_path):
    fd = os.open(tmp_path / "big", os.O_RDWR | os.O_CREAT)
    with counted_turns() as counted:
        for turn in range(400):
            cb = aiocb(fd, bytes(1 << 16), aio_offset=(turn % 16) << 16)
            aio_write(cb)
            await cb
    assert len(counted) >= 3
    os.close(fd)


# ---- suspend ------------------------------------------------------------------------------------


async def test_suspend_waits_for_one_of_many(pipe, file):
    other = os.pipe()
    waiting, cb = reading(other[0]), reading(pipe[0])
    asyncio.get_running_loop().call_later(0.01, os.write, pipe[1], b"x")
    assert await suspend([waiting, None, cb]) == 0
    assert (aio_error(waiting), aio_return(cb)) == (errno.EINPROGRESS, 1)
    assert await suspend([waiting, cb], 0) == 0
    assert await suspend([waiting, reading(file)]) == 0
    aio_cancel(other[0])
    for fd in other:
        os.close(fd)


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
async def test_suspend_fails_with_eagain_when_the_time_is_up(pipe, timeout):
    cb = reading(pipe[0])
    await failure(errno.EAGAIN, suspend([cb], timeout))
    assert aio_error(cb) == errno.EINPROGRESS
    os.write(pipe[1], b"x")
    assert await suspend([cb], 20) == 0
    assert aio_return(cb) == 1


async def test_suspend_on_nothing_returns_at_once(file):
    for nothing in ([], [None], [aiocb(file)], (None, aiocb(file))):
        assert await suspend(nothing) == 0


async def test_suspend_lets_the_loop_run(pipe):
    cb = reading(pipe[0])
    task = asyncio.ensure_future(suspend([cb]))
    await turns(5)
    assert not task.done()
    os.write(pipe[1], b"x")
    assert await task == 0


async def test_cancelled_suspend_leaves_its_requests(pipe):
    requests = [reading(pipe[0], 1) for _ in range(3)]
    task = asyncio.ensure_future(suspend(requests))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [aio_error(cb) for cb in requests] == [errno.EINPROGRESS] * 3
    os.write(pipe[1], b"abc")
    assert [await cb for cb in requests] == [1, 1, 1]


@pytest.mark.parametrize("items", [5, [5], ["cb"], [aiocb(), 5]])
async def test_suspend_takes_a_list_of_aiocbs(items):
    with pytest.raises(TypeError):
        await suspend(items)


@pytest.mark.parametrize("listed", [list, iter])
def test_suspend_that_gave_up_does_not_cancel_when_its_loop_closes(new_loop, pipe, listed):
    cb = reading(pipe[0], 3)
    loop = new_loop()
    with pytest.raises(OSError):
        loop.run_until_complete(suspend(listed([cb]), 0.01))
    loop.close()
    gc.collect()
    time.sleep(0.02)
    assert aio_error(cb) == errno.EINPROGRESS
    os.write(pipe[1], b"abc")
    assert result(cb) == 3


# ---- loops that end -----------------------------------------------------------------------------


def test_fifty_loops_in_a_row(new_loop, file, pipe):
    for turn in range(50):
        told = []

        async def body(told=told):
            cb = reading(pipe[0], 1, aio_sigevent=on_loop(told.append))
            reading(file, 1, aio_sigevent=on_loop(told.append))
            asyncio.get_running_loop().call_soon(os.write, pipe[1], b"x")
            assert await cb == 1
            while len(told) < 2:
                await asyncio.sleep(0)

        loop = new_loop()
        loop.run_until_complete(body())
        loop.close()
        assert len(told) == 2, turn


def test_loop_that_closes_cancels_what_was_awaited_on_it_and_nothing_else(new_loop, pipe):
    other = os.pipe()

    async def body():
        awaited, left = reading(pipe[0], 1), reading(other[0], 1)
        left.aio_sigevent = on_loop(print)
        task = asyncio.ensure_future(wait(awaited))
        await asyncio.sleep(0)
        return awaited, left, task

    loop = new_loop()
    awaited, left, task = loop.run_until_complete(body())
    task._log_destroy_pending = False
    loop.close()
    del loop
    gc.collect()
    aio_suspend([awaited], 20)
    assert aio_error(awaited) == errno.ECANCELED
    assert aio_error(left) == errno.EINPROGRESS
    os.write(other[1], b"x")
    assert result(left) == 1
    for fd in other:
        os.close(fd)


def test_callback_for_a_loop_that_closed_runs_nowhere(new_loop, pipe):
    told = []

    async def body():
        return reading(pipe[0], 1, aio_sigevent=on_loop(told.append))

    loop = new_loop()
    cb = loop.run_until_complete(body())
    loop.close()
    os.write(pipe[1], b"x")
    assert result(cb) == 1
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert told == []


def test_loops_in_many_threads_at_the_same_time(new_loop, tmp_path):
    async def body(number):
        fd = os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT)
        for turn in range(30):
            big = aiocb(fd, bytes([number]) * 300_000, aio_offset=turn * 10)
            aio_write(big)
            assert await big == 300_000
            small = reading(fd, 10, aio_offset=turn)
            assert await small == 10
            assert small.aio_buf == bytes([number]) * 10
        os.close(fd)

    def work(number):
        for _ in range(4):
            loop = new_loop()
            loop.run_until_complete(body(number))
            loop.close()

    with thread(work, 1), thread(work, 2), thread(work, 3), thread(work, 4):
        pass


def test_what_ended_with_no_loop_left_is_let_go(new_loop, pipe):
    class Buffer(bytearray):
        pass

    async def body():
        reading(pipe[0], 1)

    loop = new_loop()
    loop.run_until_complete(body())
    loop.close()
    os.write(pipe[1], b"x")
    eventually(lambda: _core.counters()["outstanding"] == 0)

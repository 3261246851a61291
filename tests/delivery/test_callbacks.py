"""SIGEV_LOOP: the callback runs after the completion, on the loop of the submission."""

import asyncio
import contextvars
import errno
import os

import pytest
from coroutines import on_loop, turns, until, wait
from support import end_of, eventually, failed, reading

from aiofs.aio import AIO_CANCELED, aio_cancel, aio_error, aio_read, aio_return, aio_suspend, aiocb


async def test_callback_runs_on_the_loop_after_the_call_with_a_final_status(file, pipe):
    notified = asyncio.Queue()

    def function(cb):
        assert asyncio.get_running_loop() is loop
        notified.put_nowait((cb, aio_error(cb)))

    loop = asyncio.get_running_loop()
    for fd, size in ((file, 10), (file, 1 << 20), (pipe[0], 10)):
        cb = aiocb(fd, bytearray(size))
        cb.aio_sigevent = on_loop(function, cb)
        aio_read(cb)
        assert notified.empty()
        if fd == pipe[0]:
            os.write(pipe[1], b"x")
        assert await notified.get() == (cb, 0)
        cb.aio_sigevent = None
    await turns(10)
    assert notified.empty()


async def test_callbacks_run_in_the_order_of_completion(file):
    notified = []
    pipes = [os.pipe() for _ in range(20)]
    requests = [
        reading(read_end, 1, aio_sigevent=on_loop(notified.append, number))
        for number, (read_end, _) in enumerate(pipes)
    ]
    order = [(number * 7) % 20 for number in range(20)]
    for number in order:
        os.write(pipes[number][1], b"x")
        aio_suspend([requests[number]])
    while len(notified) < 20:
        await asyncio.sleep(0)
    assert notified == order
    notified.clear()
    for number in range(20):
        reading(file, 1, aio_sigevent=on_loop(notified.append, number))  # most are cached
    while len(notified) < 20:
        await asyncio.sleep(0)
    assert sorted(notified) == list(range(20))
    for fd in sum(pipes, ()):
        os.close(fd)


async def test_cancelled_and_failed_requests_call_back(pipe):
    notified = asyncio.Queue()
    cancelled = reading(pipe[0], aio_sigevent=on_loop(notified.put_nowait, 1))
    assert aio_cancel(pipe[0], cancelled) == AIO_CANCELED
    assert notified.empty()
    assert await notified.get() == 1
    reading(987654, aio_sigevent=on_loop(notified.put_nowait, 2))
    reading(pipe[0], aio_offset=0, aio_sigevent=on_loop(notified.put_nowait, 3))
    assert await notified.get() == 2
    os.write(pipe[1], b"x")
    assert await notified.get() == 3
    await turns(5)
    assert notified.empty()


async def test_refused_call_runs_no_callback(file):
    notified = []
    cb = aiocb(file, bytearray(1), aio_reqprio=21, aio_sigevent=on_loop(notified.append))
    failed(errno.EINVAL, aio_read, cb)
    await turns(10)
    assert notified == []


async def test_exception_of_a_callback_goes_to_the_loop_and_other_callbacks_run(file, loop_errors):
    notified = []

    def function(value):
        notified.append(value)
        if value == 1:
            raise ZeroDivisionError

    for number in range(4):
        reading(file, aio_sigevent=on_loop(function, number))
    while len(notified) < 4:
        await asyncio.sleep(0)
    assert sorted(notified) == [0, 1, 2, 3]
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
    notified = asyncio.Queue()

    def function(_):
        notified.put_nowait(variable.get())

    token = variable.set("at the call")
    reading(file, aio_sigevent=on_loop(function))
    reading(pipe[0], aio_sigevent=on_loop(function))
    variable.reset(token)
    assert await notified.get() == "at the call"
    os.write(pipe[1], b"x")
    assert await notified.get() == "at the call"


def test_callback_runs_on_the_loop_of_the_submission(new_loop, pipe):
    notified = []
    one, other = new_loop(), new_loop()

    async def submit():
        function = on_loop(lambda _: notified.append(asyncio.get_running_loop()))
        reading(pipe[0], 1, aio_sigevent=function)

    one.run_until_complete(submit())
    os.write(pipe[1], b"x")
    other.run_until_complete(asyncio.sleep(0.02))
    assert notified == []
    one.run_until_complete(until(lambda: notified))
    assert notified == [one]
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


async def test_one_wakeup_covers_all_ready_completions(pipe):
    requests = [reading(pipe[0], 1) for _ in range(100)]
    waiting = [asyncio.ensure_future(wait(cb)) for cb in requests]
    await turns(10)  # reads the notifications of earlier tests
    os.write(pipe[1], b"x" * 100)
    aio_suspend([requests[-1]])  # blocks the loop
    eventually(lambda: wake_ups() == 1)  # the engine's eventfd may count too
    assert await asyncio.gather(*waiting) == [1] * 100


def wake_ups():
    """The sum of the unread counts of this process's eventfds."""
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


async def test_ten_thousand_completions_do_not_block_the_loop(pipe):
    read_end, write_end = pipe
    requests = [reading(read_end, 1) for _ in range(10_000)]
    notified = []
    for cb in requests:
        cb.aio_sigevent = None
    for start in range(0, 10_000, 5_000):
        os.write(write_end, b"x" * 5_000)
        aio_suspend([requests[start + 4_999]])
    event = on_loop(notified.append)
    beats = 0
    later = [aiocb(read_end, bytearray(1), aio_sigevent=event) for _ in range(5_000)]
    for cb in later:
        aio_read(cb)
    os.write(write_end, b"x" * 5_000)
    aio_suspend([later[-1]])
    while len(notified) < 5_000:
        await asyncio.sleep(0)
        beats += 1
    assert beats >= 10
    assert [end_of(cb) for cb in requests] == [0] * 10_000

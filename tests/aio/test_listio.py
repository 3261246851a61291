"""lio_listio: it waits for all requests of a list, or notifies when all are terminal."""

import asyncio
import errno
import os
import signal
import threading

import pytest
from support import comes, end_of, eventually, failed, handling, result

from aiofs import aio
from aiofs.aio import (
    LIO_NOP,
    LIO_NOWAIT,
    LIO_READ,
    LIO_WAIT,
    LIO_WRITE,
    SIGEV_LOOP,
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    aio_cancel,
    aio_error,
    aio_read,
    aio_return,
    aio_suspend,
    aiocb,
    lio_listio,
    sigevent,
)

SIZE = 1000
BLOCKED = signal.SIGRTMIN + 3  # all threads block it, see conftest.py


@pytest.fixture
def content():
    return b"".join(b"%04d" % n * (SIZE // 4) for n in range(50))


def reads(fd, count=50, **fields):
    return [
        aiocb(fd, bytearray(SIZE), aio_offset=n * SIZE, aio_lio_opcode=LIO_READ, **fields)
        for n in range(count)
    ]


def assert_read(requests):
    for number, cb in enumerate(requests):
        assert aio_return(cb) == SIZE
        assert cb.aio_buf == b"%04d" % number * (SIZE // 4)


def recording_event():
    """A sigevent whose function appends to a list, and the list."""
    notified = []
    return sigevent(SIGEV_THREAD, 0, "notified", notified.append), notified


# ---- waiting ------------------------------------------------------------------------------------


def test_lio_wait_returns_when_all_entries_are_terminal(file, pipe):
    requests = [*reads(file), aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ)]
    threading.Timer(0.03, os.write, [pipe[1], b"x"]).start()
    assert lio_listio(LIO_WAIT, requests) == 0
    assert [aio_error(cb) for cb in requests] == [0] * 51
    assert_read(requests[:-1])


def test_one_list_may_hold_reads_and_writes(file, tmp_path):
    copy = os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    requests = reads(file, 10)
    lio_listio(LIO_WAIT, requests)
    for cb in requests:
        cb.aio_fildes, cb.aio_lio_opcode = copy, LIO_WRITE
    others = reads(file, 20)[10:]
    assert lio_listio(LIO_WAIT, [*requests, *others]) == 0
    assert os.pread(copy, 1 << 20, 0) == os.pread(file, 10 * SIZE, 0)
    assert [cb.aio_buf[:4] for cb in others] == [b"%04d" % n for n in range(10, 20)]
    os.close(copy)


def test_none_and_lio_nop_entries_are_skipped(file):
    nop = aiocb(987654, "no buffer", "no size", aio_lio_opcode=LIO_NOP)
    requests = reads(file, 3)
    for mode in (LIO_WAIT, LIO_NOWAIT):
        assert lio_listio(mode, [None, nop, *requests, None, nop]) == 0
        aio_suspend(requests)
        failed(errno.EINVAL, aio_error, nop)


@pytest.mark.parametrize("items", [[], [None], [aiocb()], ()])
@pytest.mark.parametrize("mode", [LIO_WAIT, LIO_NOWAIT])
def test_empty_list_is_a_success(mode, items):
    assert lio_listio(mode, items) == 0


def test_lio_wait_fails_with_eio_and_the_other_entries_complete(file, tmp_path):
    requests = reads(file, 10)
    requests[3].aio_fildes = 987654
    requests[7].aio_offset = -1
    failed(errno.EIO, lio_listio, LIO_WAIT, requests)
    errors = [aio_error(cb) for cb in requests]
    assert (errors[3], errors[7]) == (errno.EBADF, errno.EINVAL)
    assert [aio_return(cb) for n, cb in enumerate(requests) if n not in (3, 7)] == [SIZE] * 8


@pytest.mark.parametrize("opcode", [3, -1, 17, 2**40])
def test_bad_opcode_ends_its_entry_and_counts_as_failed(file, opcode):
    requests = reads(file, 3)
    requests[1].aio_lio_opcode = opcode
    failed(errno.EIO, lio_listio, LIO_WAIT, requests)
    assert [aio_error(cb) for cb in requests] == [0, errno.EINVAL, 0]
    failed(errno.EINVAL, aio_return, requests[1])
    assert lio_listio(LIO_NOWAIT, requests) == 0
    assert [end_of(cb) for cb in requests] == [0, errno.EINVAL, 0]


def test_priority_out_of_range_ends_its_entry_and_counts_as_failed(file):
    requests = reads(file, 3)
    requests[1].aio_reqprio = 21
    failed(errno.EIO, lio_listio, LIO_WAIT, requests)
    assert [aio_error(cb) for cb in requests] == [0, errno.EINVAL, 0]
    assert lio_listio(LIO_NOWAIT, requests) == 0
    assert [end_of(cb) for cb in requests] == [0, errno.EINVAL, 0]


def test_lio_wait_does_not_notify_the_list(file):
    lio_listio(LIO_WAIT, reads(file), sigevent(SIGEV_SIGNAL, BLOCKED, 7))
    assert not comes(BLOCKED, 0.02)


def test_lio_wait_ignores_sig_even_with_an_invalid_value(file):
    assert lio_listio(LIO_WAIT, reads(file), "no sigevent") == 0


def test_signal_handler_ends_lio_wait_with_eintr_and_the_requests_go_on(pipe):
    requests = [aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ) for _ in range(3)]
    with handling(signal.SIGALRM, lambda *_: None):
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        failed(errno.EINTR, lio_listio, LIO_WAIT, requests)
    assert [aio_error(cb) for cb in requests] == [errno.EINPROGRESS] * 3
    os.write(pipe[1], b"abc")
    assert [result(cb) for cb in requests] == [1, 1, 1]


# ---- not waiting --------------------------------------------------------------------------------


def test_lio_nowait_returns_before_the_requests_end(pipe):
    requests = [aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ) for _ in range(3)]
    assert lio_listio(LIO_NOWAIT, requests) == 0
    assert [aio_error(cb) for cb in requests] == [errno.EINPROGRESS] * 3
    os.write(pipe[1], b"abc")
    assert [result(cb) for cb in requests] == [1, 1, 1]


def test_list_is_notified_once_after_its_last_entry(file, pipe):
    event, notified = recording_event()
    waiting = [aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ) for _ in range(2)]
    requests = reads(file)
    lio_listio(LIO_NOWAIT, [waiting[0], *requests, waiting[1]], event)
    for cb in requests:
        assert end_of(cb) == 0
    os.write(pipe[1], b"x")
    assert result(waiting[0]) == 1
    assert notified == []
    os.write(pipe[1], b"x")
    eventually(lambda: notified)
    assert aio_error(waiting[1]) == 0
    assert notified == ["notified"]


def test_list_is_notified_when_its_last_entry_is_cancelled(file, pipe):
    event, notified = recording_event()
    waiting = aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ)
    lio_listio(LIO_NOWAIT, [*reads(file, 2), waiting], event)
    aio_cancel(pipe[0])
    eventually(lambda: notified == ["notified"])


@pytest.mark.parametrize("items", [[], [None], [aiocb()]])
def test_list_with_nothing_to_do_is_notified_at_once(items):
    event, notified = recording_event()
    lio_listio(LIO_NOWAIT, items, event)
    eventually(lambda: notified == ["notified"])


def test_list_of_failed_entries_is_notified(file):
    event, notified = recording_event()
    requests = reads(file, 3)
    requests[0].aio_lio_opcode = 17
    requests[1].aio_fildes = 987654
    requests[2].aio_reqprio = -1
    lio_listio(LIO_NOWAIT, requests, event)
    eventually(lambda: notified == ["notified"])
    errors = [aio_error(cb) for cb in requests]
    assert errors == [errno.EINVAL, errno.EBADF, errno.EINVAL]


@pytest.mark.parametrize("mode", [LIO_WAIT, LIO_NOWAIT])
def test_every_entry_has_its_own_notification(file, mode):
    notified = []
    requests = reads(file, 20)
    for number, cb in enumerate(requests):
        cb.aio_sigevent = sigevent(SIGEV_THREAD, 0, number, notified.append)
    lio_listio(mode, requests, sigevent(SIGEV_THREAD, 0, "list", notified.append))
    expected = set(range(20)) | ({"list"} if mode == LIO_NOWAIT else set())
    eventually(lambda: len(notified) == len(expected))
    assert set(notified) == expected


@pytest.mark.parametrize("mode", [LIO_WAIT, LIO_NOWAIT])
@pytest.mark.parametrize(
    "broken",
    [{"aio_lio_opcode": 17}, {"aio_reqprio": 21}, {"aio_fildes": 987654}, {"aio_offset": -1}],
    ids=lambda broken: next(iter(broken)),
)
def test_failed_entry_is_notified(file, mode, broken):
    notified = []
    requests = reads(file, 3)
    requests[1].aio_sigevent = sigevent(SIGEV_THREAD, 0, requests[1], notified.append)
    for name, value in broken.items():
        setattr(requests[1], name, value)
    if mode == LIO_WAIT:
        failed(errno.EIO, lio_listio, mode, requests)
    else:
        lio_listio(mode, requests)
    eventually(lambda: notified == [requests[1]])
    assert aio_error(requests[1]) != 0


async def test_list_and_entries_are_notified_on_the_loop(file, pipe):
    notified = []
    requests = [*reads(file, 10), aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ)]
    done = asyncio.Event()
    for number, cb in enumerate(requests):
        cb.aio_sigevent = sigevent(SIGEV_LOOP, 0, number, notified.append)
    list_event = sigevent(SIGEV_LOOP, 0, "list", lambda value: (notified.append(value), done.set()))
    lio_listio(LIO_NOWAIT, requests, list_event)
    assert notified == []
    os.write(pipe[1], b"x")
    await done.wait()
    assert notified[-1] == "list"
    assert sorted(notified[:-1]) == list(range(11))


async def test_entry_of_a_notified_list_can_be_awaited_by_itself(pipe):
    other = os.pipe()
    notified = []
    requests = [
        aiocb(end, bytearray(1), aio_lio_opcode=LIO_READ) for end in (pipe[0], pipe[0], other[0])
    ]
    lio_listio(LIO_NOWAIT, requests, sigevent(SIGEV_LOOP, 0, "list", notified.append))
    waiting = asyncio.ensure_future(aio.suspend(requests[1:2]))
    await asyncio.sleep(0)
    os.write(pipe[1], b"x")  # no await waits for this request alone
    eventually(lambda: aio_error(requests[0]) == 0)
    os.write(pipe[1], b"y")
    await asyncio.wait_for(waiting, 30)
    assert await requests[1] == 1 and requests[1].aio_buf == b"y"
    assert notified == []
    os.write(other[1], b"z")
    while not notified:
        await asyncio.sleep(0.001)
    assert notified == ["list"]
    for end in other:
        os.close(end)


async def test_other_requests_are_notified_while_a_list_is_incomplete(pipe):
    other = os.pipe()
    requests = [aiocb(end, bytearray(1), aio_lio_opcode=LIO_READ) for end in (pipe[0], other[0])]
    lio_listio(LIO_NOWAIT, requests, sigevent(SIGEV_LOOP, 0, None, id))
    for _ in range(20):
        os.write(pipe[1], b"xy")
        one = aiocb(pipe[0], bytearray(1))
        aio_read(one)
        assert await asyncio.wait_for(one, 30) == 1
        requests[0] = aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ)
        lio_listio(LIO_NOWAIT, requests[:1], None)
    aio_cancel(pipe[0])
    aio_cancel(other[0])
    for end in other:
        os.close(end)


async def test_empty_list_is_notified_on_the_loop_after_the_call(file):
    notified = []
    lio_listio(LIO_NOWAIT, [], sigevent(SIGEV_LOOP, 0, 1, notified.append))
    assert notified == []
    while not notified:
        await asyncio.sleep(0)
    assert notified == [1]


def test_list_is_notified_by_a_signal(file, pipe):
    waiting = aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ)
    lio_listio(LIO_NOWAIT, [waiting, *reads(file)], sigevent(SIGEV_SIGNAL, BLOCKED, 7))
    assert not comes(BLOCKED, 0.02)
    os.write(pipe[1], b"x")
    assert signal.sigtimedwait([BLOCKED], 30) is not None
    assert not comes(BLOCKED, 0.02)


# ---- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [-1, 2, 17, None, "wait"])
def test_lio_listio_with_a_bad_mode_starts_no_request(file, mode):
    event, notified = recording_event()
    requests = reads(file, 3)
    failed(errno.EINVAL, lio_listio, mode, requests, event)
    for cb in requests:
        failed(errno.EINVAL, aio_error, cb)
    assert notified == []


@pytest.mark.parametrize(
    "field,value,error",
    [
        ("aio_buf", b"read-only", (BufferError, TypeError)),
        ("aio_nbytes", SIZE + 1, ValueError),
        ("aio_offset", 2**63, ValueError),
        ("aio_fildes", "3", TypeError),
        ("aio_sigevent", "loop", TypeError),
        ("aio_lio_opcode", "read", TypeError),
        ("aio_lio_opcode", None, TypeError),
    ],
)
@pytest.mark.parametrize("mode", [LIO_WAIT, LIO_NOWAIT])
def test_lio_listio_with_an_invalid_entry_starts_no_request(file, mode, field, value, error):
    requests = reads(file, 5)
    setattr(requests[3], field, value)
    with pytest.raises(error):
        lio_listio(mode, requests)
    for cb in requests:
        failed(errno.EINVAL, aio_error, cb)
    requests[0].aio_buf.append(0)  # the buffer is not pinned


@pytest.mark.parametrize("items", [5, None, [5], ["cb"], [aiocb(), 5]])
def test_list_entry_that_is_not_an_aiocb_is_refused(items):
    with pytest.raises(TypeError):
        lio_listio(LIO_WAIT, items)


@pytest.mark.parametrize("sig", ["loop", 1, sigevent(SIGEV_THREAD), sigevent(SIGEV_SIGNAL, "1")])
def test_lio_listio_with_a_bad_sig_starts_no_request(file, sig):
    requests = reads(file, 3)
    with pytest.raises(TypeError):
        lio_listio(LIO_NOWAIT, requests, sig)
    for cb in requests:
        failed(errno.EINVAL, aio_error, cb)


def test_aiocb_in_flight_is_refused_in_a_list(file, pipe):
    waiting = aiocb(pipe[0], bytearray(1), aio_lio_opcode=LIO_READ)
    aio_read(waiting)
    requests = reads(file, 3)
    failed(errno.EINVAL, lio_listio, LIO_NOWAIT, [*requests, waiting])
    for cb in requests:
        failed(errno.EINVAL, aio_error, cb)
    assert aio_error(waiting) == errno.EINPROGRESS
    aio_cancel(pipe[0])


def test_one_aiocb_twice_in_a_list_is_refused(file):
    requests = reads(file, 3)
    failed(errno.EINVAL, lio_listio, LIO_WAIT, [*requests, requests[0]])
    for cb in requests:
        failed(errno.EINVAL, aio_error, cb)


def test_list_with_sigev_none_is_not_notified(file):
    requests = reads(file, 3)
    assert lio_listio(LIO_NOWAIT, requests, sigevent(SIGEV_NONE, 9, 9, 9)) == 0
    assert [end_of(cb) for cb in requests] == [0, 0, 0]


def test_list_of_ten_thousand_entries_completes(file):
    requests = [cb for _ in range(200) for cb in reads(file, 50)]
    assert lio_listio(LIO_WAIT, requests) == 0
    assert sum(aio_return(cb) for cb in requests) == 10_000 * SIZE
    assert aio.AIO_LISTIO_MAX == -1

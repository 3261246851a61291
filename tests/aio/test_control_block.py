"""aiocb and sigevent: names, fields and repr."""

from support import end_of, eventually, result, waiting_read

from aiofs import aio
from aiofs.aio import aio_cancel, aio_read, aiocb, sigevent

FIELDS = {
    "aio_fildes": -1,
    "aio_buf": None,
    "aio_nbytes": None,
    "aio_offset": 0,
    "aio_reqprio": 0,
    "aio_sigevent": None,
    "aio_lio_opcode": aio.LIO_NOP,
}


def test_names_are_those_of_aio_h():
    functions = (
        "aio_read aio_write aio_fsync aio_error aio_return aio_suspend aio_cancel lio_listio"
    )
    constants = (
        "AIO_CANCELED AIO_NOTCANCELED AIO_ALLDONE LIO_READ LIO_WRITE LIO_NOP LIO_WAIT LIO_NOWAIT "
        "SIGEV_NONE SIGEV_SIGNAL SIGEV_THREAD SIGEV_LOOP "
        "AIO_LISTIO_MAX AIO_MAX AIO_PRIO_DELTA_MAX"
    )
    names = [*functions.split(), *constants.split(), "aiocb", "sigevent", "suspend"]
    assert sorted(aio.__all__) == sorted(names)
    for name in names:
        assert hasattr(aio, name)


def test_constants_equal_those_of_the_system_headers():
    assert (aio.AIO_CANCELED, aio.AIO_NOTCANCELED, aio.AIO_ALLDONE) == (0, 1, 2)
    assert (aio.LIO_READ, aio.LIO_WRITE, aio.LIO_NOP) == (0, 1, 2)
    assert (aio.LIO_WAIT, aio.LIO_NOWAIT) == (0, 1)
    assert (aio.SIGEV_SIGNAL, aio.SIGEV_NONE, aio.SIGEV_THREAD) == (0, 1, 2)
    assert aio.SIGEV_LOOP not in (0, 1, 2, 4)  # 4 is SIGEV_THREAD_ID
    assert (aio.AIO_LISTIO_MAX, aio.AIO_MAX, aio.AIO_PRIO_DELTA_MAX) == (-1, -1, 20)


def test_aiocb_fields_have_documented_defaults():
    cb = aiocb()
    event = cb.aio_sigevent
    assert type(event) is sigevent
    assert cb.aio_sigevent is event
    assert {name: getattr(cb, name) for name in FIELDS} == FIELDS | {"aio_sigevent": event}
    assert (event.sigev_notify, event.sigev_signo) == (aio.SIGEV_NONE, 0)
    assert (event.sigev_value, event.sigev_notify_function) == (None, None)


def test_aiocb_takes_its_fields_in_the_documented_order():
    values = [3, bytearray(4), 2, 1, 5, sigevent(), aio.LIO_READ]
    cb = aiocb(*values)
    assert [getattr(cb, name) for name in FIELDS] == values
    event = sigevent(aio.SIGEV_THREAD, 7, "value", print)
    assert (event.sigev_notify, event.sigev_signo) == (aio.SIGEV_THREAD, 7)
    assert (event.sigev_value, event.sigev_notify_function) == ("value", print)


def test_every_field_can_be_set():
    cb, event = aiocb(), sigevent()
    for name in FIELDS:
        value = object()
        setattr(cb, name, value)
        assert getattr(cb, name) is value
    for name in ("sigev_notify", "sigev_signo", "sigev_value", "sigev_notify_function"):
        value = object()
        setattr(event, name, value)
        assert getattr(event, name) is value


def test_sigevent_of_an_aiocb_is_set_field_by_field(file):
    """As in C: `cb.aio_sigevent.sigev_notify = SIGEV_THREAD`."""
    notified = []
    cb = aiocb(file, bytearray(10))
    cb.aio_sigevent.sigev_notify = aio.SIGEV_THREAD
    cb.aio_sigevent.sigev_notify_function = notified.append
    cb.aio_sigevent.sigev_value = 7
    aio_read(cb)
    eventually(lambda: notified == [7])
    cb.aio_sigevent = None
    assert cb.aio_sigevent.sigev_notify == aio.SIGEV_NONE


def test_fields_are_read_at_the_submission(file, content):
    cb = aiocb()
    cb.aio_fildes, cb.aio_buf, cb.aio_nbytes, cb.aio_offset = file, bytearray(10), 4, 100
    aio_read(cb)
    assert result(cb) == 4
    assert cb.aio_buf == content[100:104] + bytes(6)


def test_repr_of_an_aiocb_shows_the_status_of_its_request(file, pipe):
    cb = aiocb(file, bytearray(5))
    assert "not submitted" in repr(cb)
    aio_read(cb)
    end_of(cb)
    assert "result 5" in repr(cb)
    bad = aiocb(987654, bytearray(5))
    aio_read(bad)
    end_of(bad)
    assert "EBADF" in repr(bad)
    waiting = waiting_read(pipe[0])
    assert "in progress" in repr(waiting)
    aio_cancel(pipe[0])
    assert "ECANCELED" in repr(waiting)
    assert "sigev_signo=3" in repr(sigevent(aio.SIGEV_SIGNAL, 3))

"""inspect.signature of every public name."""

import inspect
import re

import pytest

import aiofs
from aiofs import aio, errors

NAMES = [(module, name) for module in (aiofs, aio, errors) for name in module.__all__]


@pytest.mark.parametrize("module,name", NAMES)
def test_public_names_have_a_signature(module, name):
    public = getattr(module, name)
    if callable(public):
        assert inspect.signature(public) is not None


def test_signature_of_a_control_block_is_what_it_takes():
    signature = inspect.signature(aio.aiocb)
    cb = aio.aiocb(**{name: p.default for name, p in signature.parameters.items()})
    assert cb.aio_fildes == -1 and cb.aio_lio_opcode == aio.LIO_NOP
    for public in (aio.aiocb, aio.sigevent):
        assert re.match(r"\S", inspect.getdoc(public)) and "--" not in inspect.getdoc(public)
        public(**{name: p.default for name, p in inspect.signature(public).parameters.items()})


def test_signature_of_an_error_is_what_it_takes():
    signature = inspect.signature(aiofs.NotFoundError)
    assert signature.bind(2, "missing", "/path")

"""Strategies and settings that several of these tests share."""

from hypothesis import settings
from hypothesis import strategies as st


def programs(step):
    """Lists of mostly dozens of steps, which shrink well. (st.lists alone draws about five.)"""
    pieces = st.lists(st.lists(step, max_size=20), max_size=20)
    return pieces.map(lambda pieces: [step for piece in pieces for step in piece])


def examples(times):
    """Multiplies the number of examples, for a test with cheap examples."""
    return settings(max_examples=times * settings.default.max_examples)

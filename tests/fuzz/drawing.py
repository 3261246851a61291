"""What several of these tests draw, and how often."""

from hypothesis import settings
from hypothesis import strategies as st


def programs(step):
    """Lists of steps, dozens as a rule: lists() alone draws about five. They can be made short."""
    pieces = st.lists(st.lists(step, max_size=20), max_size=20)
    return pieces.map(lambda pieces: [step for piece in pieces for step in piece])


def examples(times):
    """So many times the usual number, for a test whose examples take next to nothing."""
    return settings(max_examples=times * settings.default.max_examples)

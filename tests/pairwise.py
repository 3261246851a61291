"""A few combinations of settings that hold every pair of settings that all of them hold.

Most faults that depend on settings depend on one or two of them. So a few dozen runs stand for
thousands.
"""

from itertools import combinations


def pairs(settings):
    """The pairs of (name, value) that one combination, a dict, holds."""
    return frozenset(combinations(sorted(settings.items()), 2))


def pairwise(every):
    """Chosen greedily from all that are possible: the one with the most new pairs, again and again.

    The same input always gives the same choice.
    """
    bits = {}
    masks = [sum(1 << bits.setdefault(pair, len(bits)) for pair in pairs(one)) for one in every]
    left, chosen = (1 << len(bits)) - 1, []
    while left:
        best = max(range(len(every)), key=lambda index: (masks[index] & left).bit_count())
        chosen.append(every[best])
        left &= ~masks[best]
    return chosen

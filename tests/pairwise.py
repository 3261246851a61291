"""Pairwise testing: few combinations of settings, which contain every pair of settings.

Most faults that depend on settings depend on one or two of them. So a few dozen runs find most of
the faults that thousands of runs would find.
"""

from itertools import combinations


def pairs(settings):
    """The pairs of settings, each a (name, value), in one combination, a dict."""
    return frozenset(combinations(sorted(settings.items()), 2))


def pairwise(every):
    """Chooses combinations greedily: always the one with the most pairs that are still missing.

    Deterministic: the same input gives the same choice.
    """
    bits = {}
    masks = [sum(1 << bits.setdefault(pair, len(bits)) for pair in pairs(one)) for one in every]
    left, chosen = (1 << len(bits)) - 1, []
    while left:
        best = max(range(len(every)), key=lambda index: (masks[index] & left).bit_count())
        chosen.append(every[best])
        left &= ~masks[best]
    return chosen

"""Two builds of Culvert against each other: A and B are measured one right after the other, N times,
the first of them in turns. A pair's ratio B / A is free of the machine's drift, which moves both.

Of the N ratios the median is shown, and the interval that holds the true median with 95 %: from the
k-th smallest to the k-th largest, by the binomial distribution and nothing else (no assumption on
how figures are spread, no drawing of samples). Five pairs or fewer have no such interval.
"""

import copy
import math
import statistics

SIDES = ("A", "B")
CONFIDENCE = 0.95
NO_BUILDS = "is measured by a lab of its own, which takes one build"


def sides_of(contestant, programs):
    """The contestant twice, as A and as B."""
    both = []
    for side, program in zip(SIDES, programs):
        twin = copy.copy(contestant)
        twin.name = f"{contestant.name} {side}"
        twin.program = program
        both.append(twin)
    return both


def interval(values):
    """(lowest, highest) that hold the median of what the values are drawn from, or None."""
    ordered, tail, rank = sorted(values), 0.0, 0
    while True:  # rank values may be dropped on each side
        tail += math.comb(len(ordered), rank) / 2 ** len(ordered)
        if 2 * tail > 1 - CONFIDENCE:
            break
        rank += 1
    return (ordered[rank - 1], ordered[-rank]) if rank > 0 else None


class Comparison:
    """One metric of a row: medians of A and B, and what the ratios of the pairs say."""

    def __init__(self, result, name, metric):
        rounds = [result.rounds.get(f"{name} {side}", []) for side in SIDES]
        self.metric = metric
        self.pairs = [
            (a[metric.key], b[metric.key])
            for a, b in zip(*rounds)
            if metric.key in a and metric.key in b
        ]
        self.a, self.b = (
            (statistics.median(side) for side in zip(*self.pairs)) if self.pairs else (None, None)
        )
        ratios = [b / a for a, b in self.pairs if a > 0 and math.isfinite(a) and math.isfinite(b)]
        self.count = len(ratios)
        self.ratio = statistics.median(ratios) if ratios else None
        self.interval = interval(ratios) if ratios else None

    def word(self):
        if self.ratio is None:
            return "no ratio"
        if self.interval is None:
            return "too few pairs"
        low, high = self.interval
        if low <= 1 <= high:
            return "no difference shown"
        return "B better" if (low > 1) == (self.metric.better == "more") else "B WORSE"

    def cells(self):
        form = self.metric.form.format
        return [
            self.metric.title,
            self.metric.better,
            form(self.a) if self.a is not None else "-",
            form(self.b) if self.b is not None else "-",
            f"{self.ratio:.3f}" if self.ratio is not None else "-",
            "{:.3f}..{:.3f}".format(*self.interval) if self.interval else "-",
            str(self.count),
            self.word(),
        ]

    def as_dict(self):
        return {
            "metric": self.metric.key,
            "a": self.a,
            "b": self.b,
            "b_over_a": self.ratio,
            "interval": self.interval,
            "pairs": self.count,
        }


HEAD = ["figure", "better", "median A", "median B", "B / A", "95 % of B / A", "pairs", "says"]


def comparisons(result, name):
    return [Comparison(result, name, metric) for metric in result.row.metrics]


def as_dict(result, name):
    """For results.json, in place of targets, which are no matter of two builds."""
    return {"targets": [], "pairs": [each.as_dict() for each in comparisons(result, name)]}

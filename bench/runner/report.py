"""Turns rounds of numbers into tables, verdicts and JSON.

Every figure is the median of its rounds; behind it stands the spread (lowest..highest). A ratio is
the quotient of two medians of the same run.
"""

import json
import math
import statistics

from runner import pairs
from runner.rows import FLOORS


class RowResult:
    """All rounds of one row under one congestion control: rounds[name] lists measured dicts,
    failures[name] lists reasons."""

    def __init__(self, row, congestion=None):
        self.row = row
        self.congestion = congestion
        self.rounds = {}
        self.failures = {}
        self.absent = {}
        self.counters = {}

    def add(self, name, numbers, counters=None):
        if counters:
            self.counters[name] = counters
        self.rounds.setdefault(name, []).append(numbers)

    def fail(self, name, reason):
        self.failures.setdefault(name, []).append(reason)

    def values(self, name, key):
        return [numbers[key] for numbers in self.rounds.get(name, []) if key in numbers]

    def median(self, name, key):
        values = self.values(name, key)
        return statistics.median(values) if values else None

    def best_floor(self, metric):
        """Name of the floor with the best median, or None."""
        have = [name for name in FLOORS if self.median(name, metric.key) is not None]
        return self.best(have, metric.key, metric.better)

    def best(self, names, key, better):
        have = [name for name in names if self.median(name, key) is not None]
        if not have:
            return None
        pick = max if better == "more" else min
        return pick(have, key=lambda name: self.median(name, key))

    def metric(self, key):
        return next(metric for metric in self.row.metrics if metric.key == key)


class Verdict:
    """One target held against the medians: met is True, False, or None when it was not judged."""

    def __init__(self, result, target, subject):
        self.target = target
        self.value = result.median(subject, target.key)
        self.rival = self._rival(result, target)
        self.rival_value = result.median(self.rival, target.rival_key) if self.rival else None
        self.metric = result.metric(target.key)
        self.subject = subject
        self.ratio = None
        self.met = None
        if self.value is None or (target.rival and self.rival_value is None):
            return
        if target.rival and self.rival_value == 0:
            return
        self.ratio = self.value / self.rival_value if target.rival else self.value
        self.met = self.ratio >= target.factor if target.op == ">=" else self.ratio <= target.factor

    @staticmethod
    def _rival(result, target):
        metric = result.metric(target.rival_key)
        if target.rival == "best floor":
            return result.best_floor(metric)
        if isinstance(target.rival, tuple):
            return result.best(target.rival, target.rival_key, metric.better)
        return target.rival

    def demand(self):
        sign = {">=": "at least", "<=": "at most"}[self.target.op]
        what = f"{self.target.factor:g}"
        if self.target.rival:
            named = self.target.rival
            if isinstance(named, tuple):
                named = "the best of " + ", ".join(named)
            what += f" x {named}"
        return f"{self.metric.title}: {sign} {what}"

    def finding(self):
        if self.ratio is None:
            return "not measured"
        if not self.target.rival:
            return self.metric.form.format(self.ratio)
        named = f" ({self.rival})" if self.rival != self.target.rival else ""
        return f"{self.ratio:.2f}{named}"

    def word(self):
        return {True: "met", False: "MISSED", None: "not judged"}[self.met]


def table(rows):
    """Rows of strings as an aligned Markdown table; the first is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cell(result, name, metric):
    values = result.values(name, metric.key)
    if not values:
        return "-"
    text = metric.form.format(statistics.median(values))
    if len(values) > 1:
        text += f" ({metric.form.format(min(values))}..{metric.form.format(max(values))})"
    return text


def _ratio_cell(result, name, metric):
    floor = result.best_floor(metric)
    mine = result.median(name, metric.key)
    base = result.median(floor, metric.key) if floor else None
    return f"{mine / base:.2f}" if mine is not None and base else "-"


def heading(result):
    row = result.row
    under = f", under {result.congestion}" if result.congestion else ""
    if not row.number:
        return f"## {row.title[0].upper()}{row.title[1:]}{under}"
    lanes = "" if "TLS" in row.title else ", plain"
    return f"## Row {row.number}: {row.title}{lanes}{under}"


def row_text(result, names, subject):
    """The table of a row, its verdicts, and who was absent, as Markdown."""
    row = result.row
    head = ["contestant"]
    for metric in row.metrics:
        head.append(metric.title)
        if metric.against:
            head.append("/ floor")
    lines = [head]
    for name in names:
        if name not in result.rounds:
            continue
        cells = [name]
        for metric in row.metrics:
            cells.append(_cell(result, name, metric))
            if metric.against:
                cells.append(_ratio_cell(result, name, metric))
        lines.append(cells)
    title = heading(result)
    parts = [title, ""]
    if row.note:
        parts += [row.note, ""]
    parts.append(table(lines) if len(lines) > 1 else "Nothing was measured.")
    parts.append("")
    for verdict in verdicts(result, subject):
        parts.append(
            f"- {verdict.word()}: {verdict.subject} {verdict.finding()}; {verdict.demand()}"
        )
    return "\n".join(parts + _lacking(result)).rstrip() + "\n"


def pairs_row_text(result, name):
    """The table of a row in which two builds of a contestant were compared."""
    found = pairs.comparisons(result, name)
    lines = [pairs.HEAD] + [each.cells() for each in found if each.pairs]
    parts = [f"{heading(result)}: {name}, B / A", ""]
    if result.row.note:
        parts += [result.row.note, ""]
    parts += [table(lines) if len(lines) > 1 else "Nothing was measured.", ""]
    return "\n".join(parts + _lacking(result)).rstrip() + "\n"


def _lacking(result):
    """Who was absent and who failed, as lines."""
    lines = [f"- absent: {name} ({reason})" for name, reason in result.absent.items()]
    return lines + [
        f"- failed in {len(reasons)} of {len(reasons) + len(result.rounds.get(name, []))} rounds: "
        f"{name} ({reasons[-1]})"
        for name, reasons in result.failures.items()
    ]


def verdicts(result, subject):
    """Of the row's own subject, where it has one."""
    who = result.row.subject or subject
    return [Verdict(result, target, who) for target in result.row.targets]


# ---- the seed's own table ----

SEED = (
    ("Throughput", "520 MB/s", "throughput"),
    ("Latency overhead", "8 ms", "overhead"),
    ("Max concurrent streams", "1000+", "streams"),
    ("Memory per session", "~45 MB", "memory"),
    ("CPU usage (idle)", "<1 %", "idle"),
    ("CPU usage (active)", "3-5 %", "busy"),
    ("Reconnection time", "1-2 s (avg)", "reconnect"),
)


def seed_text(results, subject):
    """The seed's benchmark table with ours beside it; `results` by row number (see by_number)."""
    ours = {
        "throughput": _seed(
            results,
            1,
            lambda r: max(r.median(subject, "up"), r.median(subject, "down")) * 1000 / 8,
            "{:.0f} MB/s",
        ),
        "overhead": _seed(
            results,
            4,
            lambda r: (r.median(subject, "p50") - r.median("direct", "p50")) / 1000,
            "{:.3f} ms (p50 above direct)",
        ),
        "streams": _seed(results, 8, lambda r: r.median(subject, "alive"), "{:.0f}, all answering"),
        "memory": _seed(
            results,
            0,
            lambda r: r.median(subject, "session_mib"),
            "{:.1f} MB (server + client, 64 streams)",
        ),
        "idle": _seed(results, 9, lambda r: r.median(subject, "cpu"), "{:.2f} %"),
        "busy": _seed(
            results, 0, lambda r: r.median(subject, "busy"), "{:.1f} % at 1,000 requests/s"
        ),
        "reconnect": _seed(results, 0, lambda r: r.median(subject, "reconnect"), "{:.2f} s"),
    }
    lines = [["metric", "seed (t3.medium)", "ours (this machine)"]]
    lines += [[title, theirs, ours[key]] for title, theirs, key in SEED]
    return "## The seed's own table\n\n" + table(lines) + "\n"


def by_number(results, congestion):
    """One result for each row: of those that ran under several controls, the one under this."""
    found = {}
    for result in results:
        if result.row.number not in found or result.congestion == congestion:
            found[result.row.number] = result
    return found


def _seed(results, number, value, form):
    try:
        return form.format(value(results[number]))
    except (KeyError, TypeError):
        return "not measured"


# ---- JSON ----


def as_json(results, subject, about, instead=lambda result: {}):
    """`instead` gives what a row has besides, or in place of this."""
    out = {"about": about, "rows": []}
    for result in results:
        metrics = {
            metric.key: {"title": metric.title, "better": metric.better}
            for metric in result.row.metrics
        }
        out["rows"].append(
            {
                "row": result.row.number,
                "title": result.row.title,
                "congestion": result.congestion,
                "metrics": metrics,
                "rounds": result.rounds,
                "counters": result.counters,
                "absent": result.absent,
                "failures": result.failures,
                "medians": {
                    name: {key: result.median(name, key) for key in metrics}
                    for name in result.rounds
                },
                "targets": [
                    {
                        "demand": verdict.demand(),
                        "subject": verdict.subject,
                        "value": verdict.value,
                        "rival": verdict.rival,
                        "rival_value": verdict.rival_value,
                        "ratio": verdict.ratio,
                        "met": verdict.met,
                    }
                    for verdict in verdicts(result, subject)
                ],
                **instead(result),
            }
        )
    return json.dumps(_finite(out), indent=1, allow_nan=False)


def _finite(value):
    """JSON knows no infinity: null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""One SVG per row: a bar per contestant, whiskers from the lowest to the highest round."""

import math
import os
import statistics
from xml.sax.saxutils import escape

LEFT, RIGHT, BAR, GAP, TOP = 150, 90, 16, 6, 34
WIDTH = 760
COLOURS = {"direct": "#9aa0a6", "floor": "#5b8def", "ours": "#e8710a", "peer": "#a8c7a0"}


def kind_of(name):
    if name == "direct":
        return "direct"
    if name.startswith("floor"):
        return "floor"
    return "ours" if name.startswith("culvert") else "peer"


def _bars(result, names, metric, top):
    """SVG of one metric from y = top; returns (text, height)."""
    shown = [(name, result.values(name, metric.key)) for name in names]
    shown = [(name, values) for name, values in shown if values and all(map(math.isfinite, values))]
    if not shown:
        return "", 0
    most = max(max(values) for _, values in shown) or 1
    scale = (WIDTH - LEFT - RIGHT) / most
    parts = [
        f'<text x="{LEFT}" y="{top + 14}" class="head">{escape(metric.title)} '
        f'({"more" if metric.better == "more" else "less"} is better)</text>'
    ]
    y = top + 24
    for name, values in shown:
        median = statistics.median(values)
        width, middle = median * scale, y + BAR / 2
        low, high = LEFT + min(values) * scale, LEFT + max(values) * scale
        parts.append(f'<text x="{LEFT - 8}" y="{y + 12}" class="name">{escape(name)}</text>')
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" '
            f'fill="{COLOURS[kind_of(name)]}"/>'
        )
        if len(values) > 1:
            parts.append(
                f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {y + 4}v{BAR - 8}'
                f'M{high:.1f} {y + 4}v{BAR - 8}" stroke="#333" fill="none"/>'
            )
        parts.append(
            f'<text x="{max(LEFT + width, high) + 6:.1f}" y="{y + 12}">'
            f'{metric.form.format(median)}</text>'
        )
        y += BAR + GAP
    return "\n".join(parts), y - top + 12


def row_svg(result, names):
    """The whole picture, or None when the row has nothing to show."""
    body, height = [], TOP
    for metric in result.row.metrics:
        text, used = _bars(result, names, metric, height)
        if used:
            body.append(text)
            height += used
    if not body:
        return None
    title = (
        f"Row {result.row.number}: {result.row.title}" if result.row.number else result.row.title
    )
    if result.congestion:
        title += f", under {result.congestion}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height + 8}" '
        f'font-family="sans-serif" font-size="12">\n'
        '<style>.name{text-anchor:end}.head,.title{font-weight:bold}.title{font-size:14px}'
        '</style>\n<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="12" y="20" class="title">{escape(title)}</text>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def write_svgs(results, names, folder):
    """row-N.svg, or row-N-CONTROL.svg of bulk, for each row with figures; returns the paths."""
    os.makedirs(folder, exist_ok=True)
    written = []
    for result in results:
        text = row_svg(result, names)
        if text:
            under = f"-{result.congestion}" if result.row.bulk and result.congestion else ""
            path = os.path.join(folder, f"row-{result.row.number}{under}.svg")
            with open(path, "w") as out:
                out.write(text)
            written.append(path)
    return written

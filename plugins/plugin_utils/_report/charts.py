# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Charts as inline SVG. Whatever numbers come, the drawing is well formed; what cannot be drawn is counted.

Colours come from the page's style sheet by class; no meaning hangs on colour alone: a forecast is dashed,
lines end in different marks, a pending alert is an outline, a value over its limit says so.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t
from xml.sax.saxutils import escape, quoteattr

from .plain import printable
from .units import date, human, instant, number

# User units: about a pixel each at the width of a phone, so that text stays readable there.
WIDTH = 340
_LETTER = 6.7  # mean width of a letter at the 12 units of the style sheet
_ROW = 38
_MOST_ROWS = 20
_MOST_LINES = 6
_MOST_COLUMNS = 180  # a line needs no more points than it has pixels to show


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A chart and the same as a table.

    :param svg: well-formed SVG, everything in it escaped; empty where there is nothing to draw.
    :param header, rows: the table alternative, plain text.
    :param notes: what the drawing leaves out, one sentence each.
    """

    title: str
    svg: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def _element(name: str, content: str = "", **attributes: t.Any) -> str:
    """An element; ``class_`` is class, and an underscore in a name is a hyphen. The content is escaped already."""
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(printable(_number(value)))}"
        for key, value in attributes.items()
    )
    return f"<{name}{shown}>{content}</{name}>" if content else f"<{name}{shown}/>"


def _number(value: t.Any) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _text(content: str, x: float, y: float, class_: str = "", anchor: str = "start", most: int = 0) -> str:
    """A text; one longer than ``most`` letters has an ellipsis and is whole in its title. The end of a path tells."""
    content = printable(content)
    inside = escape(content)
    if most and len(content) > most:
        left = max(1, most - 1)
        shown = "…" + content[-left:] if content.startswith("/") else content[:left].rstrip() + "…"
        inside = escape(shown) + _element("title", escape(content))
    return _element("text", inside, x=x, y=y, class_=class_, text_anchor=anchor)


def _svg(parts: t.Iterable[str], height: float, title: str, description: str) -> str:
    head = _element("title", escape(printable(title))) + _element("desc", escape(printable(description)))
    return _element(
        "svg",
        head + "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {_number(float(height))}",
        role="img",
        aria_label=title or "chart",
    )


@dataclasses.dataclass(frozen=True)
class _Scale:
    """From values to places: ``low`` is drawn at ``start``, ``high`` at ``end``; ``low < high``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def _range(values: t.Sequence[float]) -> tuple[float, float]:
    """Lowest and highest of an axis for the values: apart from each other, from zero where zero is near."""
    low, high = min(values), max(values)
    if low >= 0 and low <= high * 0.6:
        low = 0.0
    if high - low <= max(abs(low), abs(high)) * 1e-6:
        margin = max(abs(high) * 0.1, 1.0)
        return (0.0 if 0 <= low < margin else low - margin), high + margin
    return low, high


def _nice(low: float, high: float, base: float = 10.0) -> list[float]:
    """Round values inside the range, three to six of them; ``base`` 2 gives steps that are round in bytes."""
    span = high - low
    unit = base ** math.floor(math.log(span / 3, base))
    step = next((unit * f for f in (1, 2, 2.5, 5) if f < base and span / (unit * f) <= 4.5), unit * base)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, first + 7) if step * i <= high + step * 1e-6]


_TIME_STEPS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400)


def _time_axis(scale: _Scale, y: float) -> str:
    """Ticks and dates under a plot."""
    span = scale.high - scale.low
    step = next((float(step) for step in _TIME_STEPS if span / step <= 4.2), None)
    step = step or 86400.0 * math.ceil(span / 86400 / 3)
    pattern = "%-d %b" if step >= 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
    if step >= 28 * 86400:
        pattern = "%b %Y"
    parts = []
    for i in range(6):
        moment = (math.ceil(scale.low / step) + i) * step
        if moment > scale.high or instant(moment) is None:
            break
        x = scale(moment)
        anchor = "start" if x < scale.start + 16 else "end" if x > scale.end - 16 else "middle"
        # A day among hours names itself.
        shown = date(moment, "%-d %b" if pattern == "%H:%M" and moment % 86400 == 0 else pattern)
        parts.append(_element("line", x1=x, x2=x, y1=y, y2=y + 4, class_="axis"))
        parts.append(_text(shown, x, y + 16, "tick", anchor))
    return "".join(parts)


def _rows(value: t.Any) -> list[dict[str, t.Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _left_out(count: int, what: str) -> list[str]:
    return [f"{count} {what} not drawn."] if count else []


def _bars(chart: dict[str, t.Any], title: str, unit: str) -> Drawing:
    given = _rows(chart.get("bars"))
    bars = [(str(row.get("label", "")), number(row.get("value")), number(row.get("limit"))) for row in given]
    drawn = [(label, value, limit) for label, value, limit in bars if value is not None][:_MOST_ROWS]
    table = [
        [str(row.get("label", "")), human(row.get("value"), unit), human(limit, unit) if limit is not None else ""]
        for row, (_label, _value, limit) in zip(given, bars)
    ]
    low = min([0.0, *(value for _label, value, _limit in drawn)])
    high = max([0.0, *(value for _label, value, _limit in drawn), *(limit or 0.0 for _label, _value, limit in drawn)])
    scale = _Scale(low, high if high > low else low + 1, 0, WIDTH)
    parts = []
    for i, (label, value, limit) in enumerate(drawn):
        y = i * _ROW
        over = limit is not None and value > limit
        shown = human(value, unit) + (f" > {human(limit, unit)}" if over else "")
        parts.append(_text(label, 0, y + 13, "label", most=int((WIDTH - 20 - len(shown) * _LETTER) / _LETTER)))
        parts.append(_text(shown, WIDTH, y + 13, "value over" if over else "value", "end"))
        left, right = sorted((scale(0.0), scale(value)))
        parts.append(_element("rect", x=0, y=y + 19, width=WIDTH, height=9, class_="track"))
        parts.append(
            _element(
                "rect", x=left, y=y + 19, width=max(1.0, right - left), height=9, class_="bar over" if over else "bar"
            )
        )
        if limit is not None:
            x = min(max(scale(limit), 1.0), WIDTH - 1.0)
            mark = _element("title", escape(f"limit {human(limit, unit)}"))
            parts.append(_element("line", mark, x1=x, x2=x, y1=y + 17, y2=y + 30, class_="limit"))
    header = ["", "value", "limit"] if any(row[2] for row in table) else ["", "value"]
    svg = _svg(parts, len(drawn) * _ROW, title, _sum_up(table, "bar")) if drawn else ""
    rows = [row[: len(header)] for row in table]
    return Drawing(title, svg, header, rows, _left_out(len(given) - len(drawn), "of the bars are"))


def _sum_up(table: list[list[str]], what: str) -> str:
    first = "; ".join(" ".join(cell for cell in row if cell) for row in table[:3])
    return f"{len(table)} {what}{'' if len(table) == 1 else 's'}: {first}{'; and more' if len(table) > 3 else ''}"


@dataclasses.dataclass(frozen=True)
class _Line:
    label: str
    points: list[tuple[float, float]]
    forecast: bool
    dropped: int


def _line(row: dict[str, t.Any]) -> _Line:
    given = row.get("points")
    pairs = [p for p in given if isinstance(p, list) and len(p) == 2] if isinstance(given, list) else []
    points = [(instant(x), number(y)) for x, y in pairs]
    kept = sorted((x, y) for x, y in points if x is not None and y is not None)
    dropped = (len(given) if isinstance(given, list) else 0) - len(kept)
    return _Line(str(row.get("label", "")), kept, row.get("style") == "forecast", dropped)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most lowest and highest of each column of pixels: peaks stay."""
    if len(points) <= _MOST_COLUMNS * 2:
        return points
    start, span = points[0][0], points[-1][0] - points[0][0] or 1.0
    columns: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        columns.setdefault(int((point[0] - start) / span * (_MOST_COLUMNS - 1)), []).append(point)
    kept = {f(column, key=lambda point: point[1]) for column in columns.values() for f in (min, max)}
    return sorted({*kept, points[0], points[-1]})


def _mark(kind: int, x: float, y: float) -> str:
    """The end of a line; each line has another shape."""
    class_ = f"mark series-{kind + 1}"
    if kind == 0:
        return _element("circle", cx=x, cy=y, r=4, class_=class_)
    shapes = ((-4, -4, 4, -4, 4, 4, -4, 4), (0, -5, 5, 4, -5, 4), (0, -5, 5, 0, 0, 5, -5, 0), (0, 5, 5, -4, -5, -4))
    shape = shapes[(kind - 1) % len(shapes)]
    corners = " ".join(f"{_number(float(x + dx))},{_number(float(y + dy))}" for dx, dy in zip(shape[::2], shape[1::2]))
    return _element("polygon", points=corners, class_=class_)


def _grid(values: _Scale, left: float, unit: str, ticks: list[float]) -> str:
    parts = []
    for tick in ticks:
        y = values(tick)
        parts.append(_element("line", x1=left, x2=WIDTH, y1=y, y2=y, class_="grid"))
        parts.append(_text(human(tick, unit), left - 6, y + 4, "tick", "end"))
    return "".join(parts)


def _lines(chart: dict[str, t.Any], title: str, unit: str) -> Drawing:
    given = [_line(row) for row in _rows(chart.get("lines"))]
    limits = [(str(row.get("label", "")), number(row.get("value"))) for row in _rows(chart.get("limits"))]
    limits_drawn = [(label, value) for label, value in limits if value is not None]
    drawn = [line for line in given if line.points][:_MOST_LINES]
    notes = _left_out(len(given) - len(drawn), "of the lines are") + _left_out(
        sum(line.dropped for line in given), "of the points are no numbers and are"
    )
    header = ["", "first", "last", "lowest", "highest"]
    table = [_line_row(line, unit) for line in given]
    table += [[f"limit {label}", human(value, unit), "", "", ""] for label, value in limits_drawn]
    if not drawn:
        return Drawing(title, "", header, table, notes)

    every = [value for line in drawn for _x, value in line.points] + [value for _label, value in limits_drawn]
    low, high = _range(every)
    ticks = _nice(low, high, 2.0 if unit == "bytes" else 10.0)
    left = min(120.0, max(len(human(tick, unit)) for tick in ticks or [0.0]) * _LETTER + 12)
    values = _Scale(low, high, 172, 14)
    moments = [x for line in drawn for x, _value in line.points]
    earliest, latest = min(moments), max(moments)
    times = _Scale(earliest, latest if latest > earliest else earliest + 1, left, WIDTH - 6)

    parts = [_grid(values, left, unit, ticks), _element("line", x1=left, x2=WIDTH, y1=172, y2=172, class_="axis")]
    parts.append(_time_axis(times, 172))
    parts += [_limits(limits_drawn, values, left, unit)]
    for i, line in enumerate(drawn):
        places = [(times(x), values(y)) for x, y in _thinned(line.points)]
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in places)
        class_ = f"line series-{i + 1}{' forecast' if line.forecast else ''}"
        if len(places) > 1:
            parts.append(_element("polyline", points=path, class_=class_))
        parts.append(_mark(i, *places[-1]))
    height = 196.0
    for i, line in enumerate(drawn):
        y = height + 12 + i * 18
        class_ = f"line series-{i + 1}{' forecast' if line.forecast else ''}"
        parts.append(_element("line", x1=left, x2=left + 26, y1=y - 4, y2=y - 4, class_=class_))
        parts.append(_mark(i, left + 26, y - 4))
        shown = f"{line.label} (forecast)" if line.forecast and "forecast" not in line.label else line.label
        parts.append(_text(shown, left + 38, y, "label", most=int((WIDTH - left - 40) / _LETTER)))
    height += len(drawn) * 18 + 4
    described = f"From {date(earliest)} to {date(latest)} UTC. " + _sum_up(table, "line")
    return Drawing(title, _svg(parts, height, title, described), header, table, notes)


def _limits(limits: list[tuple[str, float]], values: _Scale, left: float, unit: str) -> str:
    """Lines across a plot. Of two that lie close the labels stand at different ends."""
    parts = []
    taken: list[tuple[str, float]] = []
    for label, value in limits:
        y = values(value)
        place = y - 4 if y > 26 else y + 13
        crowded = [end for end, other in taken if abs(other - place) < 14]
        end = "start" if "start" not in crowded else "end"
        taken.append((end, place))
        parts.append(_element("line", x1=left, x2=WIDTH, y1=y, y2=y, class_="limit"))
        shown = f"{label} {human(value, unit)}".strip()
        x = left + 4 if end == "start" else WIDTH - 4
        parts.append(_text(shown, x, place, "limit-label", end, most=40 if not crowded else 20))
    return "".join(parts)


def _line_row(line: _Line, unit: str) -> list[str]:
    if not line.points:
        return [line.label, "no values", "", "", ""]
    ends = [f"{human(value, unit)} at {date(x)}" for x, value in (line.points[0], line.points[-1])]
    extremes = [human(f(value for _x, value in line.points), unit) for f in (min, max)]
    return [line.label, *ends, *extremes]


@dataclasses.dataclass(frozen=True)
class _Span:
    start: float
    end: float
    state: str


def _span(row: dict[str, t.Any], end: float) -> _Span | None:
    """A span of a row; one that has not ended yet ends with the chart."""
    start = instant(row.get("start"))
    stop = instant(row.get("end")) if row.get("end") is not None else end
    if start is None or stop is None or stop < start:
        return None
    return _Span(start, stop, "pending" if row.get("state") == "pending" else "firing")


def _joined(spans: list[_Span], scale: _Scale) -> list[tuple[float, float, str]]:
    """Left and right of what is drawn; spans of one state that touch on the page are one."""
    drawn: list[tuple[float, float, str]] = []
    for span in sorted(spans, key=lambda span: (span.state, span.start)):
        left, right = scale(span.start), max(scale(span.end), scale(span.start) + 2)
        if drawn and drawn[-1][2] == span.state and left - drawn[-1][1] < 0.5:
            drawn[-1] = (drawn[-1][0], max(right, drawn[-1][1]), span.state)
        else:
            drawn.append((left, right, span.state))
    return drawn


def _timeline(chart: dict[str, t.Any], title: str, unit: str) -> Drawing:
    del unit
    start, end = instant(chart.get("start")), instant(chart.get("end"))
    given = _rows(chart.get("rows"))
    header = ["", "state", "from", "to", "for"]
    if start is None or end is None or end <= start:
        rows = [[str(row.get("label", "")), "", "", "", ""] for row in given]
        return Drawing(title, "", header, rows, ["Its start and end are no times in order, so it is not drawn."])
    lanes = [(str(row.get("label", "")), [_span(item, end) for item in _rows(row.get("spans"))]) for row in given]
    notes = _left_out(max(0, len(lanes) - _MOST_ROWS), "of the rows are")
    notes += _left_out(sum(found.count(None) for _label, found in lanes), "of the spans have no times in order and are")
    scale = _Scale(start, end, 0, WIDTH)
    parts, table = [], []
    for i, (label, found) in enumerate(lanes):
        spans = [span for span in found if span]
        table += [
            [label, span.state, date(span.start), date(span.end), human(span.end - span.start, "seconds")]
            for span in spans
        ] or [[label, "quiet", "", "", ""]]
        if i >= _MOST_ROWS:
            continue
        y = i * _ROW
        firing = [span for span in spans if span.state == "firing"]
        total = human(sum(span.end - span.start for span in firing), "seconds")
        shown = f"{len(firing)} \N{MULTIPLICATION SIGN}, {total}" if firing else "pending only" if spans else "quiet"
        parts.append(_text(label, 0, y + 13, "label", most=int((WIDTH - 20 - len(shown) * _LETTER) / _LETTER)))
        parts.append(_text(shown, WIDTH, y + 13, "value", "end"))
        parts.append(_element("rect", x=0, y=y + 19, width=WIDTH, height=12, class_="track"))
        for left, right, state in _joined(spans, scale):
            inset = 3 if state == "pending" else 0
            width = min(right, float(WIDTH)) - left
            parts.append(
                _element(
                    "rect",
                    x=left,
                    y=y + 19 + inset,
                    width=max(width, 1.0),
                    height=12 - 2 * inset,
                    class_=f"span {state}",
                )
            )
    shown_rows = min(len(lanes), _MOST_ROWS)
    y = shown_rows * _ROW
    parts.append(_element("line", x1=0, x2=WIDTH, y1=y, y2=y, class_="axis"))
    parts.append(_time_axis(scale, y))
    for x, state in ((0, "firing"), (80, "pending")):
        inset = 3 if state == "pending" else 0
        parts.append(_element("rect", x=x, y=y + 27 + inset, width=20, height=12 - 2 * inset, class_=f"span {state}"))
        parts.append(_text(state, x + 26, y + 37, "label"))
    described = f"From {date(start)} to {date(end)} UTC. " + _sum_up(table, "span")
    svg = _svg(parts, y + 44, title, described) if lanes else ""
    return Drawing(title, svg, header, table, notes)


_KINDS: dict[str, t.Callable[[dict[str, t.Any], str, str], Drawing]] = {
    "bars": _bars,
    "lines": _lines,
    "timeline": _timeline,
}


def draw(chart: t.Any) -> Drawing:
    """The chart of a finding's evidence (see ``_finding.py``). What is no chart gives a drawing that says so."""
    kind = str(chart.get("kind")) if isinstance(chart, dict) else ""
    if kind not in _KINDS:
        return Drawing("Chart", "", [], [], [f"This is no chart; its kind would be one of {', '.join(_KINDS)}."])
    return _KINDS[kind](chart, str(chart.get("title") or "Chart"), str(chart.get("unit") or ""))


def spark(values: t.Sequence[tuple[float, float]], title: str) -> str:
    """A small line of ``(unix seconds, value)``, the newest marked; reports stand at equal distances."""
    numbers = [value for _time, value in values]
    low, high = min(numbers), max(numbers)
    if high - low <= max(abs(low), abs(high)) * 1e-6:
        low, high = low - 1 - abs(low), high + 1 + abs(high)
    scale = _Scale(low, high, 34, 6)
    step = (WIDTH / 2 - 16) / max(1, len(numbers) - 1)
    places = [(8 + i * step, scale(value)) for i, value in enumerate(numbers)]
    path = " ".join(f"{_number(x)},{_number(y)}" for x, y in places)
    parts = [_element("title", escape(printable(title)))]
    if len(places) > 1:
        parts.append(_element("polyline", points=path, class_="line series-1"))
    parts.append(_element("circle", cx=places[-1][0], cy=places[-1][1], r=4, class_="mark series-1"))
    return _element(
        "svg",
        "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH // 2} 40",
        role="img",
        aria_label=title,
        class_="spark",
    )

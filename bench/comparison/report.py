"""Results: ratios to nginx in the same round, as Markdown, JSON and SVG."""

import json
import math
from statistics import median

REFERENCE = "nginx"
COLUMNS = [
    ("figure", "{unit}"),
    ("user", "user"),
    ("kernel", "kernel"),
    ("per_second", "a second"),
    ("p50", "p50 ms"),
    ("p99", "p99 ms"),
    ("memory", "MiB"),
]
COLORS = {
    "nginx": "#6b7280",
    "haproxy": "#2563eb",
    "envoy": "#9333ea",
    "caddy": "#0891b2",
    "oauth2-proxy": "#d97706",
    "upwarden": "#dc2626",
}


class Results:
    """Samples by case, proxy and round, and why a proxy is missing from a case."""

    def __init__(self, about):
        self.about, self.cases, self.samples, self.left_out = about, [], {}, {}

    def add(self, case, peer, turn, sample):
        if case not in self.cases:
            self.cases.append(case)
        self.samples.setdefault((case.name, peer), {})[turn] = sample.fields()

    def leave_out(self, case, peer, reason):
        if case not in self.cases:
            self.cases.append(case)
        self.left_out[case.name, peer] = reason

    def peers(self):
        names = {peer for _, peer in self.samples}
        return [name for name in COLORS if name in names]

    def value(self, case, peer, field):
        """The median over the rounds."""
        rounds = self.samples.get((case.name, peer), {}).values()
        values = [sample[field] for sample in rounds if sample[field] is not None]
        return median(values) if values else None

    def ratio(self, case, peer, field="figure"):
        """The median of the ratios to nginx, each within one round."""
        ours, theirs = (self.samples.get((case.name, name), {}) for name in (peer, REFERENCE))
        ratios = [sample[field] / theirs[turn][field] for turn, sample in ours.items() if sample[field] and theirs.get(turn, {}).get(field)]
        return median(ratios) if ratios else None

    def markdown(self):
        return "\n".join([*self._summary(), "", *self._reasons(), *self._details()]) + "\n"

    def _summary(self):
        others = [peer for peer in self.peers() if peer != REFERENCE]
        yield _row(["case", REFERENCE, *others])
        yield _row(["---", *["---:"] * (1 + len(others))])
        for case in self.cases:
            absolute = [self.value(case, peer, "figure") for peer in (REFERENCE, *others)]
            cells = [self.ratio(case, peer) for peer in others]
            if absolute[0] is None:
                # Without nginx there is no ratio.
                cells = [_measured(value, case.unit) for value in absolute]
            else:
                cells = [_measured(absolute[0], case.unit), *(_number(ratio) for ratio in cells)]
            yield _row([case.title, *cells])

    def _reasons(self):
        """Each reason once, with the cases that it stands for."""
        cases = {}
        for (case, peer), reason in self.left_out.items():
            cases.setdefault((peer, reason), []).append(case)
        for (peer, reason), names in cases.items():
            where = "" if len(names) == len(self.cases) > 1 else f" of {', '.join(names)}"
            yield f"- {peer} is left out{where}: {reason}."

    def _details(self):
        for case in self.cases:
            yield f"\n### {case.title}\n"
            yield _row(["", *(title.format(unit=case.unit) for _, title in COLUMNS)])
            yield _row(["---", *["---:"] * len(COLUMNS)])
            for peer in self.peers():
                if (case.name, peer) in self.samples:
                    yield _row([peer, *(self._cell(case, peer, field) for field, _ in COLUMNS)])

    def _cell(self, case, peer, field):
        value, ratio = self.value(case, peer, field), self.ratio(case, peer, field)
        return _number(value) + (f" ({_number(ratio)}×)" if ratio and peer != REFERENCE else "")

    def json(self):
        cases = []
        for case in self.cases:
            peers = {}
            for peer in self.peers():
                rounds = self.samples.get((case.name, peer))
                if rounds:
                    ratios = {field: self.ratio(case, peer, field) for field, _ in COLUMNS}
                    peers[peer] = {"ratio_to_nginx": ratios, "rounds": list(rounds.values())}
            left_out = {peer: reason for (name, peer), reason in self.left_out.items() if name == case.name}
            cases.append({"name": case.name, "title": case.title, "unit": case.unit, "peers": peers, "left_out": left_out})
        return json.dumps({"about": self.about, "cases": cases}, indent=2, ensure_ascii=False) + "\n"

    def svg(self):
        rows = [(case.title, {peer: self.ratio(case, peer) for peer in self.peers()}) for case in self.cases]
        return plot([row for row in rows if row[1].get(REFERENCE)])


def plot(rows):
    """A dot for each proxy in each row, on a logarithmic scale of ratios to nginx."""
    ratios = [ratio for _, row in rows for ratio in row.values() if ratio]
    low = math.floor(math.log2(min(ratios + [1])))
    high = max(math.ceil(math.log2(max(ratios + [1]))), low + 1)
    left, width, top, line = 300, 520, 56, 26
    height = top + line * len(rows) + 34
    place = lambda ratio: left + (math.log2(ratio) - low) / (high - low) * width
    bottom = height - 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 30} {height}" font-family="sans-serif" font-size="13">',
        "<title>Cost of each proxy as a ratio to nginx</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    names = [name for name in COLORS if any(row.get(name) for _, row in rows)]
    for position, name in enumerate(names):
        x = left + position * 95
        out.append(f'<circle cx="{x}" cy="20" r="6" fill="{COLORS[name]}"/><text x="{x + 11}" y="24.5">{name}</text>')
    for power in range(low, high + 1):
        x, bold = place(2**power), power == 0
        out.append(f'<line x1="{x:.1f}" y1="{top - 14}" x2="{x:.1f}" y2="{bottom}" stroke="{"#6b7280" if bold else "#e5e7eb"}"/>')
        out.append(f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle" fill="#374151">{2.0**power:g}×</text>')
    for number, (title, row) in enumerate(rows):
        y = top + line * number
        out.append(f'<text x="{left - 16}" y="{y + 4.5}" text-anchor="end">{_escape(title)}</text>')
        for name in names:
            if row.get(name):
                out.append(f'<circle cx="{place(row[name]):.1f}" cy="{y}" r="6" fill="{COLORS[name]}" fill-opacity="0.85"><title>{name}: {row[name]:.2f}×</title></circle>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _number(value):
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _measured(value, unit):
    return "–" if value is None else f"{_number(value)} {unit}"


def _escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")

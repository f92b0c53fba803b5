"""html.py DOM SUMMARY LIGHT DARK PDF: the page as Chromium has it says what the summary says, in both schemes and on paper.

SUMMARY is the last line of `dsascope stat --json` of the same events.
"""

import json
import sys
import zlib
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Numbers by the places that name them: (table or figure, row's attributes, figure)."""

    def __init__(self):
        super().__init__()
        self.open, self.figures, self.texts, self.scripts = [], {}, [], 0

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.scripts += tag in ("script", "iframe", "object", "img")
        if tag not in VOID:
            self.open.append((tag, attributes))
        value = attributes.get("data-ns", attributes.get("data-count"))
        if value is not None:
            table = next((a["id"] for _, a in reversed(self.open) if "id" in a), None)
            row = next((a for t, a in reversed(self.open) if t == "tr"), {})
            row = tuple(row[name] for name in ("data-stage", "data-wq", "data-pasid", "data-opened") if name in row)
            figure = next((a["data-figure"] for _, a in reversed(self.open) if "data-figure" in a), None)
            self.figures.setdefault((table, row, figure), []).append(int(value))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        self.texts.append(text)

    def one(self, table, row=(), figure=None):
        values = self.figures.get((table, row, figure))
        assert values and len(values) == 1, f"{table} {row} {figure}: {values}"
        return values[0]


def corner(path):
    """The colour of a PNG's first pixel: no filter changes that one."""
    data, at, packed = open(path, "rb").read(), 8, b""
    while at < len(data):
        length = int.from_bytes(data[at:at + 4], "big")
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += length + 12
    return tuple(zlib.decompress(packed)[1:4])


def main(dom, summary, light, dark, paper):
    page = Page()
    page.feed(open(dom, encoding="utf-8").read())
    summary = json.load(open(summary, encoding="utf-8"))
    assert page.scripts == 0, "the page has scripts or loads something"
    contexts = summary["contexts"]
    for name, key in [("faults", "served"), ("failures", "failed")]:
        want = sum(context[key] for context in contexts)
        assert page.one(name) == want, f"{name}: {page.one(name)} on the page, {want} in stat"
    stages = 0
    for latency in summary["latency"]:
        for figure in ("count", "mean_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"):
            got = page.one("stages", (latency["stage"],), figure)
            assert got == latency[figure], f"{latency['stage']} {figure}: {got} on the page, {latency[figure]} in stat"
            stages += 1
    rows = 0
    for context in contexts:
        row = (f"wq{context['device'].lstrip('adisxq')}.{context['wq']}", str(context["pasid"]), str(context["opened_ns"] or 0))
        for figure, key in [("faults", "served"), ("failed", "failed")]:
            got = page.one("processes", row, figure)
            assert got == context[key], f"{row} {figure}: {got} on the page, {context[key]} in stat"
        rows += 1
    sides = summary["ledger"]["kernel"]
    ledger = page.figures[("ledger", (), None)]
    want = [side[kind] for kind in sides["seen"] for side in (sides["seen"], sides["sent"], sides["lost"], summary["ledger"]["received"])]
    assert ledger == want, f"ledger: {ledger} on the page, {want} in stat"
    text = " ".join(page.texts)
    for finding in summary["findings"]:
        assert finding["sentence"] in text, finding["sentence"]
    pale, deep = corner(light), corner(dark)
    assert min(pale) > 200 and max(deep) < 60, f"light {pale}, dark {deep}"
    assert open(paper, "rb").read(5) == b"%PDF-"
    print(f"{stages} figures of stages, {rows} open files")


main(*sys.argv[1:])

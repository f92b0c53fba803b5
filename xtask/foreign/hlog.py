"""hlog.py LOG ROWS SUMMARY: PyPI's hdrhistogram reads the interval log and finds what the rows and the summary say.

ROWS is the JSON export of the same events, SUMMARY the last line of `dsascope stat --json`.
"""

import json
import math
import sys
from collections import defaultdict
from urllib.parse import unquote

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

STAGES = ["interrupt", "queue", "prepare", "copy", "finish", "service", "driver", "device", "notice", "total"]
HIGHEST_NS = (1 << 36) - 1


def new():
    return HdrHistogram(1, HIGHEST_NS, 3)


def counts(histogram):
    return [(histogram.get_value_from_index(i), histogram.get_count_at_index(i))
            for i in range(histogram.counts_len) if histogram.get_count_at_index(i)]


def value_at(histogram, quantile):
    """The value that at least this part of all does not exceed: hdrhistogram's own rounds the rank to the nearest."""
    below, rank = 0, max(1, math.ceil(quantile * histogram.get_total_count()))
    for value, count in counts(histogram):
        below += count
        if below >= rank:
            return histogram.get_highest_equivalent_value(value)
    raise AssertionError("an empty histogram")


def read_log(path):
    """The sum of each tag's intervals, and the times that the log covers, in ms since 1970."""
    tags, spans, reader = defaultdict(new), [], HistogramLogReader(path, new())
    while histogram := reader.get_next_interval_histogram():
        tags[histogram.get_tag()].add(histogram)
        spans.append((histogram.get_start_time_stamp(), histogram.get_end_time_stamp()))
    assert reader.observed_base_time and reader.get_start_time_sec() == reader.base_time_sec
    for start, end in spans:
        assert abs(end - start - 1000) < 1, f"an interval of {end - start} ms"
        assert abs((start - reader.base_time_sec * 1000 + 500) % 1000 - 500) < 1, f"{start} is off the grid"
    return tags, min(start for start, _ in spans), max(end for _, end in spans)


def read_rows(path):
    """The same sums, made here of each fault, and of each record that was seen later."""
    tags, first, last = defaultdict(new), math.inf, 0
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        if row["kind"] not in ("fault", "seen"):
            continue
        first, last = min(first, row["at_ns"]), max(last, row["at_ns"])
        for stage in STAGES:
            if row[stage + "_ns"] is not None:
                key = stage, row["wq"], row["pid"], row["pasid"], row["comm"]
                tags[key].record_value(min(row[stage + "_ns"], HIGHEST_NS))
    return tags, first, last


def parse_tag(tag):
    fields = dict(field.split("=", 1) for field in tag.split(";"))
    known = lambda name: None if fields[name] == "-" else unquote(fields[name])
    pid = known("pid")
    return fields["stage"], fields["wq"], pid and int(pid), int(fields["pasid"]), known("comm")


def main(log, rows, summary):
    in_log, start_ms, end_ms = read_log(log)
    in_log = {parse_tag(tag): histogram for tag, histogram in in_log.items()}
    in_rows, first_ns, last_ns = read_rows(rows)
    assert in_log.keys() == in_rows.keys(), f"other tags: {in_log.keys() ^ in_rows.keys()}"
    for tag, histogram in in_log.items():
        assert counts(histogram) == counts(in_rows[tag]), f"{tag}: the counts differ"
    assert last_ns - first_ns <= (end_ms - start_ms) * 1e6, "the intervals do not cover the faults"

    summary = json.load(open(summary, encoding="utf-8"))
    for latency in summary["latency"]:
        whole = new()
        for tag, histogram in in_log.items():
            if tag[0] == latency["stage"]:
                whole.add(histogram)
        assert whole.get_total_count() == latency["count"], latency
        for name, quantile in [("p50_ns", .5), ("p90_ns", .9), ("p99_ns", .99), ("p999_ns", .999), ("max_ns", 1.)]:
            found = min(value_at(whole, quantile), latency["max_ns"])
            assert found == latency[name], f"{latency['stage']} {name}: {found} in the log, {latency[name]} in stat"

    comments = [line for line in open(log, encoding="utf-8") if line.startswith("#")]
    for record, seen in summary["ledger"]["kernel"]["seen"].items():
        sides = summary["ledger"]["kernel"]
        want = f"#ledger {record}: seen {seen}, sent {sides['sent'][record]}, lost {sides['lost'][record]}, "
        assert any(line.startswith(want) for line in comments), want
    assert any(line.startswith("#bucket error: 0.1 %") for line in comments)
    print(f"{len(in_log)} tags, {sum(histogram.get_total_count() for histogram in in_log.values())} values")


main(*sys.argv[1:])

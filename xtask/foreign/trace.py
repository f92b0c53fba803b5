"""A Perfetto trace decoded by Perfetto's own message classes, held event by event against the JSON rows of the same capture.

usage: trace.py TRACE ROWS
"""

import collections
import json
import sys

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

Event = proto.TrackEvent


def decode(path):
    """Events as (time, kind, name, track's name, event), and descriptors by identifier."""
    trace = proto.Trace()
    with open(path, "rb") as file:
        trace.ParseFromString(file.read())
    names, arguments, tracks, events, clocks = {}, {}, {}, [], None
    for packet in trace.packet:
        if packet.HasField("interned_data"):
            names.update({name.iid: name.name for name in packet.interned_data.event_names})
            arguments.update({name.iid: name.name for name in packet.interned_data.debug_annotation_names})
        if packet.HasField("clock_snapshot"):
            clocks = {clock.clock_id: clock.timestamp for clock in packet.clock_snapshot.clocks}
        if packet.HasField("track_descriptor"):
            assert packet.track_descriptor.uuid not in tracks, "a track is described twice"
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            event = packet.track_event
            assert event.track_uuid in tracks, "an event of a track that was not described"
            assert packet.timestamp_clock_id == proto.BUILTIN_CLOCK_MONOTONIC
            name = names[event.name_iid] if event.name_iid else event.name
            values = {}
            for annotation in event.debug_annotations:
                key = arguments[annotation.name_iid] if annotation.name_iid else annotation.name
                values[key] = getattr(annotation, annotation.WhichOneof("value"))
            events.append((packet.timestamp, event.type, name, event.track_uuid, event, values))
    return events, tracks, clocks


def slices(events):
    """Complete slices by track, which must nest: what began last ends first, and nothing overlaps."""
    found, open_slices, last = [], collections.defaultdict(list), collections.defaultdict(int)
    by_track = collections.defaultdict(list)
    for at, kind, name, track, event, values in events:
        if kind in (Event.TYPE_SLICE_BEGIN, Event.TYPE_SLICE_END):
            by_track[track].append((at, kind, name, event, values))
    for track, own in by_track.items():
        # As the reader does: by time; what has the same keeps its order.
        for at, kind, name, event, values in sorted(own, key=lambda entry: entry[0]):
            if kind == Event.TYPE_SLICE_BEGIN:
                open_slices[track].append((at, name, event, values))
            else:
                begun, name, event, values = open_slices[track].pop()
                found.append((track, name, begun, at, event, values))
                last[track] = at
        assert not open_slices[track], f"track {track}: a slice without an end"
    return found


def main(trace, rows):
    with open(rows) as file:
        rows = [json.loads(line) for line in file]
    faults = [row for row in rows if row["kind"] == "fault"]
    assert faults
    events, tracks, clocks = decode(trace)
    wall = clocks[proto.BUILTIN_CLOCK_REALTIME] - clocks[proto.BUILTIN_CLOCK_MONOTONIC]
    assert wall > 1_600_000_000_000_000_000
    all_slices = slices(events)

    def counted(entries):
        return collections.Counter(entries)

    # Every stage of every fault, at its time, and nothing else.
    for row in faults:
        row["device_end_ns"] = row["submitted_at_ns"] + row["device_ns"] if row["device_ns"] is not None else None
    for name, begin, end in [
        ("device", "submitted_at_ns", "device_end_ns"),
        ("wait", "queued_at_ns", "started_at_ns"),
        ("service", "started_at_ns", "done_at_ns"),
        ("prepare", "started_at_ns", "copy_start_at_ns"),
        ("copy", "copy_start_at_ns", "copy_end_at_ns"),
        ("finish", "copy_end_at_ns", "done_at_ns"),
    ]:
        expected = counted((row[begin], row[end]) for row in faults if row[begin] and row[end])
        found = counted((begun, ended) for _, slice_name, begun, ended, _, _ in all_slices if slice_name == name)
        assert found == expected, f"{name}: {len(found)} slices, {len(expected)} expected"

    # On the tracks that they belong to.
    services = {}
    for track, name, begun, ended, event, values in all_slices:
        if name == "service":
            services[(begun, ended)] = (tracks[track].thread, values)
        if name == "wait":
            parent = tracks[tracks[track].parent_uuid].name
            assert tracks[track].name.startswith(parent + " waiting "), tracks[track].name
    for row in faults:
        if row["started_at_ns"] and row["done_at_ns"]:
            track, values = services[(row["started_at_ns"], row["done_at_ns"])]
            assert (track.tid, track.thread_name) == (row["worker"], f"kworker {row['worker']}")
            assert (values["WQ"], values["PASID"]) == (row["wq"], row["pasid"])
            assert values["record address"] == row["record_address"]
            assert values["operation"] == (row["operation"] or "unknown")
            assert values.get("batch") == row["batch_id"], (values, row)

    # Each submission and each look at a record on the track of its thread.
    def instants(name):
        own = [(at, tracks[track].thread, values) for at, _, other, track, _, values in events if other == name]
        return counted((at, thread.pid, thread.tid) for at, thread, _ in own), own

    submitted = [row for row in faults if row["submitted_at_ns"]]
    found, own = instants("submitted")
    assert found == counted((row["submitted_at_ns"], row["pid"], row["submit_tid"]) for row in submitted)
    said = counted((at, values["operation"], values["how"], values.get("bytes")) for at, _, values in own)
    assert said == counted(
        (row["submitted_at_ns"], row["submit_operation"], row["submit_how"], row["submit_bytes"]) for row in submitted
    )
    found, _ = instants("seen")
    expected = counted((row["seen_at_ns"], row["pid"], row["submit_tid"]) for row in rows if row["seen_at_ns"])
    assert found == expected, (found - expected, expected - found)

    # A batch has the elements that its faults tell of.
    batches = [values for _, name, _, _, _, values in all_slices if name == "batch"]
    told = sum(values[key] for values in batches for key in ("elements delivered", "elements failed", "elements not observed"))
    elements = sum(row["batch_index"] is not None for row in faults)
    assert told == elements, f"{told} elements of batches, {elements} expected"

    # A flow a fault: submission, device, hand-over, wait, service, outcome, seen, in this order; each ends once.
    flows = collections.defaultdict(list)
    ends = collections.Counter()
    for at, kind, name, track, event, values in events:
        for flow in event.flow_ids:
            flows[flow].append((at, name))
        for flow in event.terminating_flow_ids:
            flows[flow].append((at, name))
            ends[flow] += 1
    assert len(flows) == len(faults) and set(ends.values()) == {1}
    seen = [flow for flow, steps in flows.items() if steps[-1][1] == "seen"]
    assert len(seen) <= sum(row["seen_at_ns"] is not None for row in faults)
    ends_of = {flow: steps.pop() for flow, steps in flows.items() if flow in set(seen)}
    assert all(flows[flow][-1][0] <= at for flow, (at, _) in ends_of.items())
    outcomes = counted(steps[-1][1] for steps in flows.values())
    words = {"delivered": "delivered", "failed": "FAILED", "short": "FAILED", "not_copied": "not copied"}
    expected = counted(words.get(row["outcome"], "outcome not observed") for row in faults)
    assert outcomes == expected, (outcomes, expected)
    whole = ["submitted", "device", "hand-over", "wait", "service"]
    begun = 0
    for steps in flows.values():
        names = [name for _, name in steps[:-1]]
        begun += names[:1] == ["submitted"]
        # Where the interrupt thread was not seen, or the submission not followed, the flow begins later.
        names = [name for name in names if name not in ("submitted", "device")]
        assert names == whole[5 - len(names) :], steps
        assert [at for at, _ in steps] == sorted(at for at, _ in steps), steps

    assert begun == len(submitted), (begun, len(submitted))

    # Counters: each run of the interrupt thread found so many entries; and losses.
    entries = sum(values["entries"] for _, name, _, _, _, values in all_slices if name == "interrupt thread")
    depths = sum(event.counter_value for _, kind, _, track, event, _ in events
                 if kind == Event.TYPE_COUNTER and tracks[track].name.endswith("event log"))
    assert entries == depths > 0, (entries, depths)
    [ledger] = [values for _, _, name, _, _, values in events if name == "loss ledger"]
    lost = sum(row["lost"] or 0 for row in rows if row["kind"] == "ledger")
    counters = [event.counter_value for _, kind, _, track, event, _ in events
                if kind == Event.TYPE_COUNTER and tracks[track].name == "events lost"]
    assert counters[-1] == ledger["events lost"] == lost, (counters, ledger, lost)
    print(f"{len(faults)} faults, {len(all_slices)} slices on {len(tracks)} tracks")


main(*sys.argv[1:])

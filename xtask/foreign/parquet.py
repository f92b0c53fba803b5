"""parquet.py DOCUMENT DIRECTORY ROWS...: DuckDB reads the Parquet files in DIRECTORY/faults as one table, cell by cell what the JSON
exports beside them say. The SQL of DOCUMENT, run as they stand there, answer what is counted here.
"""

import json
import math
import os
import re
import sys
from collections import Counter, defaultdict

import duckdb

TABLE = "'faults/*.parquet'"


def same_cell(name, found, wanted):
    if name in ("time", "date") and found is not None:
        return str(found) == wanted
    return found == wanted


def same_rows(connection, json_rows, path):
    """Cell by cell: every column of every row, in order."""
    names = list(json_rows[0])
    # As text, because Python's own times end at microseconds.
    columns = ", ".join({"time": "strftime(time AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%nZ')"}.get(name, name) for name in names)
    found = connection.execute(f"SELECT {columns} FROM '{path}' ORDER BY file_row_number").fetchall()
    assert len(found) == len(json_rows), f"{path}: {len(found)} rows, JSON has {len(json_rows)}"
    for number, (cells, row) in enumerate(zip(found, json_rows), 1):
        for name, cell in zip(names, cells):
            assert same_cell(name, cell, row[name]), f"{path}, row {number}, {name}: {cell!r}, JSON {row[name]!r}"


def quantile(values, part):
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def sums_and_quantiles(connection, faults):
    """What DuckDB makes of each column of durations over all files."""
    names = [name for name in faults[0] if name.endswith("_ns") and not name.endswith("at_ns")]
    assert len(names) == 10, names
    for name in names:
        values = [row[name] for row in faults if row[name] is not None]
        found = connection.execute(
            f"SELECT count({name}), sum({name}), quantile_disc({name}, 0.5), quantile_disc({name}, 0.99), max({name}) "
            f"FROM {TABLE} WHERE kind = 'fault'").fetchone()
        wanted = (len(values), sum(values), quantile(values, .5), quantile(values, .99), max(values))
        assert found == wanted, f"{name}: {found}, JSON {wanted}"


def who_pays(faults, _):
    groups = defaultdict(list)
    for row in faults:
        groups[row["host"], row["comm"], row["wq"]].append(row)
    answer = [(*key, len(rows), sum(row["outcome"] == "failed" for row in rows),
               quantile([row["copy_ns"] for row in rows if row["copy_ns"] is not None] or [None], .99),
               sum(row["service_ns"] or 0 for row in rows)) for key, rows in groups.items()]
    return sorted(answer, key=lambda row: row[-1], reverse=True)[:10]


def storms(faults, _):
    seconds = Counter((row["host"], row["device"], row["time"][:19].replace("T", " ")) for row in faults)
    return sorted(((*key, count) for key, count in seconds.items()), key=lambda row: (-row[3], row[2], *row[:2]))[:10]


def trust(_, rows):
    answer = []
    for host in sorted({row["host"] for row in rows}):
        own = [row for row in rows if row["host"] == host]
        total = lambda kind, name: sum(row[name] or 0 for row in own if row["kind"] == kind)
        answer.append((host, total("ledger", "seen"), total("ledger", "lost"), total("hole", "count"),
                       sum(row["kind"] == "end" and row["name"] != "balanced" for row in own)))
    return answer


def main(document, directory, paths):
    os.chdir(directory)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    rows = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            own = [json.loads(line) for line in file]
        same_rows(connection, own, os.path.splitext(path)[0] + ".parquet")
        rows += own
    faults = [row for row in rows if row["kind"] == "fault"]
    sums_and_quantiles(connection, faults)

    with open(document, encoding="utf-8") as file:
        queries = re.findall(r"```sql\n(.*?)```", file.read(), re.DOTALL)
    expected = [who_pays, storms, trust]
    assert len(queries) == len(expected), f"{len(queries)} queries in {document}"
    for query, expect in zip(queries, expected):
        assert TABLE in query, query
        found = [tuple(str(cell) if name == "second" else cell for name, cell in zip(columns, row))
                 for result in [connection.execute(query)]
                 for columns in [[column[0] for column in result.description]]
                 for row in result.fetchall()]
        wanted = expect(faults, rows)
        assert found and found == wanted, f"{expect.__name__}: {found}, JSON {wanted}"
    metadata = dict(connection.execute(f"SELECT key, value FROM parquet_kv_metadata({TABLE})").fetchall())
    assert json.loads(metadata[b"dsascope.ledger"])["quiesced"] is True and metadata[b"dsascope.bucket_error"] == b"0"
    print(f"{len(faults)} faults in {len(paths)} files, {len(queries)} queries")


main(sys.argv[1], sys.argv[2], sys.argv[3:])

"""lake.py --exports DIRECTORY --folder DIRECTORY: makes the Parquet files of a fleet out of the exports of samples/, and says what they
cost: bytes a fault, and what the queries of README.md and docs/fleet.md take. With --check the answers are held against the exports instead.

A host's day is made of episodes: all faults of one export, begun at a random time. What differs from one episode to the next, so that
nothing is compressed which in a fleet would not be: host, device, process, PASID, cgroup, addresses by process, CPU and worker by interrupt,
every duration by fault (by up to a factor of 1.65), and thus every time. What does not: which operations and outcomes there are and in what
order, how faults come in bursts, and how often addresses repeat. The writer is DuckDB's, with the codec, encodings and row groups of ours.
"""

import argparse
import datetime
import json
import os
import random
import re
import resource
import tempfile
import time
from collections import Counter, namedtuple
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/fleet.md")
# As the documents write the folder.
TABLES = ("'faults/*.parquet'", "'lake/*/*/*.parquet'")
FIRST_DAY = datetime.date(2026, 11, 1)
DAY_NS = 86_400 * 10**9
KERNELS = ("6.12.57+deb12-amd64", "6.18.15+deb13-amd64", "7.3.4+deb13-amd64")
# One host in ten storms: 11 times the faults of another, and most of them in storms. By sample, the part of a host's faults.
STORMING = 10
WEIGHTS = {True: 5.5, False: 0.5}
PARTS = {True: {"storm": 0.9, "batch": 0.08, "calm": 0.02}, False: {"batch": 0.8, "calm": 0.2}}
AS_WE_WRITE = "FORMAT parquet, COMPRESSION gzip, PARQUET_VERSION V2, ROW_GROUP_SIZE 65536"
STAGES = ("interrupt", "queue", "prepare", "copy", "finish")

Day = namedtuple("Day", "host number date episodes")


def connect():
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


def host_name(number):
    return f"host-{number:05}"


def storms(number):
    return number % STORMING == 0


def plan(counts, faults, hosts, days):
    """The episodes of each host's day, sample and begin, so that there are about so many faults."""
    dice = random.Random(1)
    weight = sum(WEIGHTS[storms(number)] for number in range(hosts))
    for number in range(hosts):
        storming = storms(number)
        for day in range(days):
            own = faults * WEIGHTS[storming] / weight / days
            episodes = [(sample, dice.randrange(DAY_NS - 60 * 10**9)) for sample, part in PARTS[storming].items()
                        for _ in range(max(1, round(own * part / counts[sample])))]
            yield Day(host_name(number), number, FIRST_DAY + datetime.timedelta(days=day), episodes)


def load(connection, exports):
    """The exports as tables; gives the number of faults of each, the columns, and the metadata of one."""
    paths = {sample: str(exports / f"{sample}.parquet") for sample in PARTS[True]}
    files = f"read_parquet({list(paths.values())})"
    columns = [name for name, *_ in connection.execute(f"DESCRIBE FROM {files}").fetchall()]
    for table, kinds in (("source", "kind = 'fault'"), ("ledger", "kind <> 'fault'")):
        connection.execute(f"CREATE TABLE {table} AS SELECT *, parse_filename(filename, true) AS sample, file_row_number AS number "
                           f"FROM {files} WHERE {kinds}")
    whole = " AND ".join(f"{stage}_ns IS NOT NULL" for stage in STAGES)
    assert connection.execute(f"SELECT count(*) FROM source WHERE NOT ({whole})").fetchone() == (0,), "a stage was not seen"
    connection.execute("CREATE TABLE first AS SELECT sample, min(interrupt_at_ns) AS first FROM source GROUP BY sample")
    connection.execute("CREATE MACRO below(seed, salt, bound) AS hash(seed, salt) % bound")
    connection.execute("CREATE MACRO vary(value, seed, salt) AS (value * exp(below(seed, salt, 1000003) / 1000003 - 0.5))::BIGINT")
    counts = dict(connection.execute("SELECT sample, count(*) FROM source GROUP BY sample").fetchall())
    metadata = dict(connection.execute(
        f"SELECT decode(key), decode(value) FROM parquet_kv_metadata({quoted(paths['storm'])})").fetchall())
    return counts, columns, metadata


def rows(day, columns):
    """SQL for the rows of a host's day, in the order in which they would have been seen."""
    episodes = ", ".join(f"({quoted(sample)}, {begin}, {index})" for index, (sample, begin) in enumerate(day.episodes))
    host = quoted(day.host)
    midnight = (day.date - datetime.date(1970, 1, 1)).days * DAY_NS
    boot = (day.date - FIRST_DAY).days * DAY_NS + random.Random(day.number).randrange(100 * DAY_NS)
    program = f"hash({host}, s.comm)"
    return f"""
    WITH episode(sample, begin, episode) AS (VALUES {episodes}),
    seeded AS (
        SELECT s.*, begin + s.interrupt_at_ns - first AS arrived, hash({host}, {day.date.toordinal()}, episode) AS seed,
               hash(seed, s.number) AS fault, hash(seed, s.interrupt_at_ns) AS run, {program} AS program,
               below(seed, 1, 4) AS unit, below(seed, program, 1048576) * 4096 AS shift
        FROM source s JOIN episode USING (sample) JOIN first USING (sample)),
    varied AS (SELECT *, {", ".join(f"vary({stage}_ns, fault, {salt}) AS {stage}" for salt, stage in enumerate(STAGES))} FROM seeded),
    timed AS (
        SELECT *, arrived + interrupt AS queued, queued + queue AS started, started + prepare AS copying, copying + copy AS copied,
               copied + finish AS done
        FROM varied),
    faults AS (
        SELECT * REPLACE (
            make_timestamp_ns({midnight} + done)::TIMESTAMPTZ_NS AS time, DATE '{day.date}' AS date, {boot} + done AS at_ns,
            {host} AS host, 'dsa' || unit AS device, 'wq' || unit || wq[4:] AS wq,
            (1000 + below(program, {day.date.toordinal()}, 4000000))::UINTEGER AS pid,
            comm[:12] || '-' || below(program, 2, 8) AS comm,
            below(program, 3, 100000) AS cgroup, '/system.slice/' || comm || '.service' AS cgroup_path,
            (1 + below(program, 4, 1000))::UINTEGER AS pasid, ({boot} + below(program, 5, 1000000000))::BIGINT AS opened_at_ns,
            record_address + shift AS record_address, page_address + shift AS page_address, copy_address + shift AS copy_address,
            below(run, 6, 64)::USMALLINT AS cpu, below(run, 7, 64)::USMALLINT AS queue_cpu,
            (200 + below(run, 6, 64) * 7)::UINTEGER AS worker,
            {boot} + arrived AS interrupt_at_ns, {boot} + queued AS queued_at_ns, {boot} + started AS started_at_ns,
            {boot} + copying AS copy_start_at_ns, {boot} + copied AS copy_end_at_ns, {boot} + done AS done_at_ns,
            interrupt AS interrupt_ns, queue AS queue_ns, prepare AS prepare_ns, copy AS copy_ns, finish AS finish_ns,
            done - started AS service_ns, copied - arrived AS driver_ns)
        FROM timed),
    books AS (
        SELECT kind, name, {", ".join(f"sum({name})::BIGINT AS {name}" for name in ("count", "seen", "sent", "lost", "received"))},
               min(number) AS number, make_timestamp_ns({midnight + DAY_NS - 1})::TIMESTAMPTZ_NS AS time, DATE '{day.date}' AS date,
               ({boot} + {DAY_NS - 1})::BIGINT AS at_ns, {host} AS host
        FROM ledger JOIN episode USING (sample) GROUP BY kind, name)
    SELECT {", ".join(columns)}
    FROM (FROM faults UNION ALL BY NAME FROM books)
    ORDER BY CASE kind WHEN 'fault' THEN 1 WHEN 'end' THEN 3 ELSE 2 END, at_ns, number"""


def write(connection, day, folder, metadata, columns):
    directory = folder / f"day={day.date}" / f"host={day.host}"
    directory.mkdir(parents=True)
    session = json.loads(metadata["dsascope.session"]) | {"host": day.host, "kernel": KERNELS[day.number % len(KERNELS)]}
    pairs = metadata | {"dsascope.session": json.dumps(session)}
    pairs = ", ".join(f"{quoted(key)}: {quoted(value)}" for key, value in pairs.items())
    file = quoted(directory / "faults.parquet")
    connection.execute(f"COPY ({rows(day, columns)}) TO {file} ({AS_WE_WRITE}, KV_METADATA {{{pairs}}})")


def make(connection, folder, days, columns, metadata):
    begun = time.monotonic()
    for number, day in enumerate(days, 1):
        write(connection, day, folder, metadata, columns)
        if number % 100 == 0:
            print(f"{number} of {len(days)} days of hosts, {time.monotonic() - begun:.0f} s", flush=True)
    os.sync()


def questions(folder):
    """The queries of the documents, asked of this folder: what the text says before the query, and the query."""
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for block in re.finditer(r"```sql\n(.*?);?\n```", text, re.DOTALL):
            name = text[:block.start()].rstrip().rsplit("\n\n", 1)[-1].split(":")[0].replace("\n", " ")
            query = block[1]
            for table in TABLES:
                query = query.replace(table, quoted(folder / "*/*/*.parquet"))
            yield name, query


def forget(folder):
    """Has the kernel drop what it keeps of the files."""
    for path in folder.glob("*/*/*.parquet"):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def ask(connection, query):
    """Seconds, seconds of processor time, and bytes from the disk that an answer takes."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    connection.execute(query).fetchall()
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, (after.ru_inblock - before.ru_inblock) * 512


def measure(connection, exports, folder):
    files = quoted(folder / "*/*/*.parquet")
    paths = list(folder.glob("*/*/*.parquet"))
    size = sum(path.stat().st_size for path in paths)
    faults, = connection.execute(f"SELECT count(*) FROM {files} WHERE kind = 'fault'").fetchone()
    columns = connection.execute(
        f"SELECT path_in_schema, sum(total_compressed_size)::BIGINT FROM parquet_metadata({files}) GROUP BY 1 ORDER BY 2 DESC").fetchall()
    data = sum(bytes for _, bytes in columns)
    print(f"{faults} faults, {len(paths)} files, {size} bytes: {size / faults:.1f} a fault; "
          f"{(size - data) / len(paths):.0f} bytes a file are its end")
    print("bytes a fault by column:", ", ".join(f"{name} {bytes / faults:.2f}" for name, bytes in columns[:20]))
    with tempfile.TemporaryDirectory() as directory:
        for sample in PARTS[True]:
            paths = [exports / f"{sample}.parquet", Path(directory) / f"{sample}.parquet"]
            connection.execute(f"COPY (FROM {quoted(paths[0])}) TO {quoted(paths[1])} ({AS_WE_WRITE})")
            ours, theirs = (connection.execute(f"SELECT sum(total_compressed_size) FROM parquet_metadata({quoted(path)})").fetchone()[0]
                            for path in paths)
            print(f"pages of {sample} as exported: {ours} bytes, as DuckDB writes them: {theirs}")
    print("\n| question | cold s | warm s | processor s | MB read |\n|---|---:|---:|---:|---:|")
    for name, query in [("Open every file and count rows", f"SELECT count(*) FROM {files}"), *questions(folder)]:
        forget(folder)
        with connect() as fresh:
            cold, _, read = ask(fresh, query)
            warm, used, _ = min(ask(fresh, query) for _ in range(3))
        print(f"| {name} | {cold:.1f} | {warm:.1f} | {used:.1f} | {read / 1e6:.0f} |", flush=True)
    print("load", *os.getloadavg())


def check(connection, folder, days, columns, counts):
    """The answers over the whole folder are those that the exports let expect."""
    types = [row[:2] for row in connection.execute("DESCRIBE source").fetchall()]
    found = [row[:2] for row in connection.execute(f"DESCRIBE FROM {quoted(folder / '*/*/*.parquet')}").fetchall()]
    assert found == [*types[:len(columns)], ("day", "DATE")], f"columns {found}"
    failures = dict(connection.execute("SELECT sample, count(*) FILTER (outcome = 'failed') FROM source GROUP BY sample").fetchall())
    hosts, failed = Counter(), Counter()
    for day in days:
        for sample, _ in day.episodes:
            hosts[day.host] += counts[sample]
            failed[day.host] += failures[sample]
    kernels = Counter()
    for number, host in enumerate(sorted(hosts)):
        kernels[KERNELS[number % len(KERNELS)]] += hosts[host]
    storming = {host: hosts[host] for number, host in enumerate(sorted(hosts)) if storms(number)}

    def total(rows, key, value):
        sums = Counter()
        for row in rows:
            sums[row[key]] += row[value]
        return {name: count for name, count in sums.items() if count}

    def one_day(host):
        return sum(counts[sample] for day in days if (day.host, day.date) == (host, FIRST_DAY) for sample, _ in day.episodes)

    expected = [
        lambda rows: [(total(rows, "host", "faults"), hosts), (total(rows, "host", "failed"), failed)],
        lambda rows: [(total(rows, "host", "faults"), hosts)],
        lambda rows: [(total(rows, "host", "records_seen").keys(), hosts.keys()),
                      ([sum(row[name] for row in rows) for name in ("records_lost", "holes", "unbalanced")], [0, 0, 0])],
        lambda rows: [({row["host"] for row in rows}, storming.keys())],
        lambda rows: [(sum(row["faults"] for row in rows), hosts.total()), (sum(row["failed"] for row in rows), failed.total())],
        lambda rows: [(total(rows, "kernel", "faults"), kernels)],
        lambda rows: [(sum(row["faults"] for row in rows), one_day("host-00000"))],
    ]
    asked = list(questions(folder))
    assert len(asked) == len(expected), f"{len(asked)} queries in {DOCUMENTS}"
    for (name, query), expect in zip(asked, expected):
        # Sums are over all rows.
        result = connection.execute(re.sub(r"\nLIMIT \d+$", "", query))
        names = [column[0] for column in result.description]
        for found, wanted in expect([dict(zip(names, row)) for row in result.fetchall()]):
            assert found == wanted, f"{name}: {found}, expected {wanted}"
    print(f"{hosts.total()} faults of {len(hosts)} hosts, {len(asked)} queries")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--exports", type=Path, required=True, help="folder with storm.parquet, batch.parquet, calm.parquet")
    parser.add_argument("--folder", type=Path, required=True, help="where to make the files; if it is there, it is only asked")
    parser.add_argument("--faults", type=int, default=50_000_000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="hold the answers against the exports, in place of measuring")
    options = parser.parse_args()
    with connect() as connection:
        counts, columns, metadata = load(connection, options.exports)
        days = list(plan(counts, options.faults, options.hosts, options.days))
        if not options.folder.exists():
            make(connection, options.folder, days, columns, metadata)
        if options.check:
            check(connection, options.folder, days, columns, counts)
        else:
            measure(connection, options.exports, options.folder)


main()

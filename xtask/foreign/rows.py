"""rows.py SCHEMA JSON CSV: every JSON row keeps to the schema, CSV has the same rows, and the books at their end are balanced."""

import csv
import json
import sys

from jsonschema import Draft202012Validator


def text(value):
    """A JSON value as CSV has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return str(value)


def main(schema, json_path, csv_path):
    with open(schema, encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    with open(json_path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for number, row in enumerate(rows, 1):
        error = next(validator.iter_errors(row), None)
        assert error is None, f"row {number}: {error.json_path}: {error.message}"
        assert row.keys() == schema["properties"].keys(), f"row {number} has other columns than the schema"
    with open(csv_path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == list(rows[0]), reader.fieldnames
        records = list(reader)
    assert len(records) == len(rows), f"{len(records)} records of CSV, {len(rows)} rows of JSON"
    for number, (record, row) in enumerate(zip(records, rows), 1):
        for name, value in row.items():
            assert record[name] == text(value), f"row {number}, {name}: CSV {record[name]!r}, JSON {value!r}"

    end = rows[-1]
    assert (end["kind"], end["name"]) == ("end", "balanced"), end
    books = [row for row in rows if row["kind"] == "ledger" and row["seen"] is not None]
    assert books and all(row["seen"] == row["sent"] + row["lost"] for row in books)
    faults = sum(row["kind"] == "fault" for row in rows)
    assert faults == next(row["received"] for row in books if row["name"] == "fault"), f"{faults} rows of faults"
    print(f"{len(rows)} rows, {faults} of faults")


main(*sys.argv[1:])

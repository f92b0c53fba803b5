use super::*;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/dsascope-export-v1.schema.json");

#[test]
fn the_committed_schema_is_the_generated_one() {
    let generated = schema().unwrap();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(SCHEMA, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(SCHEMA).unwrap_or_default();
    assert!(
        committed == generated,
        "run `UPDATE_SCHEMA=1 cargo test -p dsascope-export` and commit {SCHEMA}"
    );
}

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/exports.md");

/// The columns as docs/exports.md has them.
fn columns() -> String {
    let mut text = String::from("| column | type | null | what |\n|---|---|---|---|\n");
    for Column { name, kind, nullable, doc } in Row::COLUMNS {
        let null = if *nullable { "yes" } else { "" };
        text.push_str(&format!("| `{name}` | {} | {null} | {doc} |\n", kind.name()));
    }
    text
}

#[test]
fn the_documents_columns_are_the_tables() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let (head, rest) = text.split_once("<!-- columns -->\n").unwrap();
    let (found, tail) = rest.split_once("<!-- end -->").unwrap();
    let columns = columns();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(DOCUMENT, format!("{head}<!-- columns -->\n{columns}<!-- end -->{tail}")).unwrap();
    } else {
        assert!(
            found == columns,
            "run `UPDATE_SCHEMA=1 cargo test -p dsascope-export` and commit {DOCUMENT}"
        );
    }
}

#[test]
fn names_say_their_units() {
    for (number, column) in Row::COLUMNS.iter().enumerate() {
        assert!(
            Row::COLUMNS[..number].iter().all(|other| other.name != column.name),
            "{} twice",
            column.name
        );
        let counts = matches!(column.name, "count" | "seen" | "sent" | "lost" | "received");
        assert!(column.kind != Kind::Integer || counts || column.name.ends_with("_ns"), "{}", column.name);
        assert!(column.doc.ends_with(['.']), "{}", column.name);
    }
}

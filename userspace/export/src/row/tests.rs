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

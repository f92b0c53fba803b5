//! ARCHITECTURE.md's table of crates, held against the crates themselves. Only a test: a document that is checked stays true.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::process::Command;

    use serde::Deserialize;

    use crate::binaries::workspace;

    /// Crate to the workspace's crates it depends on.
    type Arrows = BTreeMap<String, BTreeSet<String>>;

    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }

    #[derive(Deserialize)]
    struct Package {
        name: String,
        dependencies: Vec<Dependency>,
    }

    #[derive(Deserialize)]
    struct Dependency {
        name: String,
        /// Only a path dependency has one.
        path: Option<String>,
    }

    /// What the manifests say, development and build dependencies included.
    fn real() -> Arrows {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(workspace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
        let of = |package: Package| {
            let inner = package.dependencies.into_iter().filter(|d| d.path.is_some()).map(|d| d.name);
            (package.name, inner.collect())
        };
        metadata.packages.into_iter().map(of).collect()
    }

    /// The table: rows of ``| `folder` | `crate` | `dependency`, ... | purpose |``.
    fn documented(text: &str) -> Arrows {
        let (_, rest) = text.split_once("<!-- arrows -->").expect("a line <!-- arrows -->");
        let (table, _) = rest.split_once("<!-- end -->").expect("a line <!-- end -->");
        let names =
            |cell: &str| cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Vec<_>>();
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            let [_, _, name, to, _, _] = cells.as_slice() else { panic!("not four cells: {row}") };
            (names(name).concat(), names(to).into_iter().collect())
        })
        .collect()
    }

    /// Every crate or arrow that only one side has.
    fn differences(real: &Arrows, documented: &Arrows) -> Vec<String> {
        let mut differences = Vec::new();
        for name in real.keys().chain(documented.keys()).collect::<BTreeSet<_>>() {
            let (Some(real), Some(documented)) = (real.get(name), documented.get(name)) else {
                differences.push(format!("{name} is a crate or in the table, not both"));
                continue;
            };
            let told = |to: &BTreeSet<String>, what: &str| {
                to.iter().map(|to| format!("{name} -> {to}: {what}")).collect::<Vec<_>>()
            };
            differences.extend(told(&(real - documented), "not allowed by the table"));
            differences.extend(told(&(documented - real), "in the table, but not so"));
        }
        differences
    }

    #[test]
    fn the_crates_depend_on_each_other_as_architecture_md_says() {
        let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
        let differences = differences(&real(), &documented(&text));
        assert!(differences.is_empty(), "ARCHITECTURE.md:\n{}", differences.join("\n"));
    }

    #[test]
    fn every_difference_is_told() {
        let table = |rows: &str| {
            documented(&format!(
                "<!-- arrows -->\n| folder | crate | to | what |\n|---|---|---|---|\n{rows}<!-- end -->"
            ))
        };
        let truth = table("| `a/` | `a` | `b`, `c` | . |\n| `b/` | `b` | | . |\n");
        assert_eq!(truth["a"].len(), 2);
        assert_eq!(differences(&truth, &truth), [""; 0]);
        assert_eq!(
            differences(&truth, &table("| `a/` | `a` | `b`, `d` | . |\n| `e/` | `e` | | . |\n")),
            [
                "a -> c: not allowed by the table",
                "a -> d: in the table, but not so",
                "b is a crate or in the table, not both",
                "e is a crate or in the table, not both"
            ]
        );
    }
}

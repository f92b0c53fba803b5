//! The configuration file of the live view. Owns: where it is, what it may hold, and what is wrong with it. Options win over it; that is
//! the caller's. docs/config.toml is the documented sample, and equals the defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use dsascope_core::expression::nearest;
use dsascope_core::stages::Stage;
use dsascope_tui::View;
use dsascope_tui::remap::Remap;
use serde::Deserialize;

use crate::exit::{Code, Failure};
use crate::units::search;

/// A file is small; what is larger is another one.
const MOST_BYTES: u64 = 1 << 20;
const NEXT: &str = "correct it as docs/config.toml has it, or name another file with --config";

/// What the file says, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub ascii: bool,
    pub no_mouse: bool,
    pub view: View,
    pub stage: Option<Stage>,
    pub filter: String,
    pub keys: Remap,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    live: Live,
    keys: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Live {
    ascii: bool,
    mouse: bool,
    view: Option<String>,
    stage: Option<String>,
    filter: String,
}

impl Default for Live {
    fn default() -> Self {
        Self { ascii: false, mouse: true, view: None, stage: None, filter: String::new() }
    }
}

impl Settings {
    /// From the file of --config, which must be there; else from the user's, which need not.
    ///
    /// # Errors
    /// The file cannot be read, or says what it may not.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = named.map(Path::to_owned).or_else(usual) else { return Ok(Self::default()) };
        let what = || format!("configuration {}", path.display());
        let text = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            other => {
                other.map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", what()), NEXT))?
            }
        };
        Self::parse(&text).map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", what()), NEXT))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let stages = Stage::ALL.map(|stage| (stage.name().to_owned(), stage));
        let views = View::ALL.map(|view| (view.name().to_lowercase(), view));
        Ok(Self {
            ascii: file.live.ascii,
            no_mouse: !file.live.mouse,
            view: file.live.view.map(|word| named("view", &word, &views)).transpose()?.unwrap_or_default(),
            stage: file.live.stage.map(|word| named("stage", &word, &stages)).transpose()?,
            filter: search(&file.live.filter).map_err(|error| format!("[live] filter: {error}"))?,
            keys: Remap::new(&file.keys).map_err(|error| format!("[keys]: {error}"))?,
        })
    }
}

fn usual() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(base.join("dsascope/config.toml"))
}

fn read(path: &Path) -> io::Result<String> {
    let file = fs::metadata(path)?;
    if !file.is_file() || file.len() > MOST_BYTES {
        return Err(io::Error::other("no file, or too large a one"));
    }
    fs::read_to_string(path)
}

/// The one of that name.
fn named<T: Copy>(what: &str, word: &str, all: &[(String, T)]) -> Result<T, String> {
    let names = || all.iter().map(|(name, _)| name.as_str());
    all.iter().find(|(name, _)| name == word).map(|(_, value)| *value).ok_or_else(|| {
        let near = nearest(word, names()).map_or_else(String::new, |near| format!("; {near:?}, perhaps"));
        format!("[live]: there is no {what} {word:?}{near}")
    })
}

#[cfg(test)]
mod tests {
    use dsascope_tui::remap::ACTIONS;

    use super::*;

    const SAMPLE: &str = include_str!("../../../docs/config.toml");

    #[test]
    fn the_sample_is_what_holds_without_a_file_and_has_all_of_it() {
        let defaults = Settings { stage: Some(Stage::Service), ..Settings::default() };
        assert_eq!(Settings::parse(SAMPLE), Ok(defaults));
        let file: File = toml::from_str(SAMPLE).expect("it was parsed");
        let live: toml::Table = toml::from_str(SAMPLE).expect("it was parsed");
        let written = live["live"].as_table().expect("a table").keys();
        assert_eq!(written.collect::<Vec<_>>(), ["ascii", "filter", "mouse", "stage", "view"]);
        assert!(file.live.view.is_some() && file.live.stage.is_some());
        let actions: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(file.keys.len(), actions.len());
        assert!(file.keys.keys().all(|name| actions.contains(&name.as_str())));
        for name in View::ALL.map(View::name).into_iter().chain(Stage::ALL.map(Stage::name)) {
            assert!(SAMPLE.contains(&name.to_lowercase()), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |text: &str| Settings::parse(text).expect_err("it is wrong");
        assert!(told("[live]\nasci = true").contains("line 2"), "{}", told("[live]\nasci = true"));
        assert_eq!(
            told("[live]\nview = 'batchs'"),
            "[live]: there is no view \"batchs\"; \"batches\", perhaps"
        );
        assert!(told("[keys]\nquit = 'x'").starts_with("[keys]: 'x' is the key of both"));
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
        assert!(Settings::parse("[live]\nmouse = false").expect("a setting").no_mouse);
    }
}

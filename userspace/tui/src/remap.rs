//! Keys of the user's own: which action a key stands for. Owns: names of actions and their first keys. Refuses: what an action does;
//! that is [`crate::keymap`]'s, which only knows the first keys.

use std::collections::BTreeMap;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use dsascope_core::expression::nearest;

/// Actions that can have another key, by name, with the key they have else.
pub const ACTIONS: [(&str, char); 29] = [
    ("quit", 'q'),
    ("help", '?'),
    ("filter", '/'),
    ("sort", 's'),
    ("sort_reverse", 'S'),
    ("stage", 't'),
    ("stage_back", 'T'),
    ("batches", 'b'),
    ("findings", 'f'),
    ("failed", 'x'),
    ("worst", 'w'),
    ("freeze", ' '),
    ("up", 'k'),
    ("down", 'j'),
    ("first", 'g'),
    ("last", 'G'),
    ("pause", 'p'),
    ("slower", '['),
    ("faster", ']'),
    ("next_fault", 'n'),
    ("next_batch", 'N'),
    ("start", '^'),
    ("end", '$'),
    ("save", 'e'),
    ("copy", 'y'),
    ("mark", 'm'),
    ("next_mark", '\''),
    ("sort_next", '>'),
    ("sort_previous", '<'),
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemapError {
    #[error("there is no action {name:?}{}", meant(.near))]
    NoAction { name: String, near: Option<&'static str> },
    #[error("{name} = {key:?}: one character is a key, or \"space\"")]
    NoKey { name: String, key: String },
    #[error("{key:?} is the key of both {first} and {second}")]
    Twice { key: char, first: &'static str, second: &'static str },
}

fn meant(near: &Option<&'static str>) -> String {
    near.map_or_else(String::new, |near| format!("; {near:?}, perhaps"))
}

/// What each action's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remap {
    /// In the order of [`ACTIONS`].
    keys: [char; ACTIONS.len()],
}

impl Default for Remap {
    fn default() -> Self {
        Self { keys: ACTIONS.map(|(_, key)| key) }
    }
}

impl Remap {
    /// From names of actions and their keys; an action that is not named keeps its own.
    ///
    /// # Errors
    /// An action or a key that does not exist, or a key of two actions.
    pub fn new(named: &BTreeMap<String, String>) -> Result<Self, RemapError> {
        let mut keys = Self::default().keys;
        for (name, text) in named {
            let Some(place) = ACTIONS.iter().position(|(action, _)| action == name) else {
                let near = nearest(name, ACTIONS.iter().map(|(action, _)| *action));
                return Err(RemapError::NoAction { name: name.clone(), near });
            };
            let mut chars = text.chars();
            keys[place] = match (text.as_str(), chars.next(), chars.next()) {
                ("space", ..) => ' ',
                (_, Some(key), None) if !key.is_control() => key,
                _ => return Err(RemapError::NoKey { name: name.clone(), key: text.clone() }),
            };
        }
        for (place, &key) in keys.iter().enumerate() {
            if let Some(other) = keys[..place].iter().position(|other| *other == key) {
                return Err(RemapError::Twice { key, first: ACTIONS[other].0, second: ACTIONS[place].0 });
            }
        }
        Ok(Self { keys })
    }

    /// The key that the keymap knows for the one that was pressed; `None`: it stands for nothing any more.
    #[must_use]
    pub fn known(&self, key: KeyEvent) -> Option<KeyEvent> {
        let KeyCode::Char(pressed) = key.code else { return Some(key) };
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return Some(key);
        }
        if let Some(place) = self.keys.iter().position(|own| *own == pressed) {
            return Some(KeyEvent { code: KeyCode::Char(ACTIONS[place].1), ..key });
        }
        let was_moved = ACTIONS.iter().any(|(_, first)| *first == pressed);
        (!was_moved).then_some(key)
    }

    /// Keys as a footer shows them, with those of the user's own: `s S`.
    #[must_use]
    pub fn shown(&self, keys: &str) -> String {
        let shown = |token: &str| -> String {
            let token = if token == "Space" { " " } else { token };
            let place = ACTIONS.iter().position(|(_, first)| token.chars().eq([*first]));
            match place.map_or_else(|| token.to_owned(), |place| self.keys[place].to_string()) {
                key if key == " " => "Space".into(),
                key => key,
            }
        };
        keys.split(' ').map(shown).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remap(pairs: &[(&str, &str)]) -> Result<Remap, RemapError> {
        Remap::new(&pairs.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned())).collect())
    }

    fn known(remap: &Remap, key: char) -> Option<KeyCode> {
        remap.known(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)).map(|key| key.code)
    }

    #[test]
    fn a_moved_action_is_at_its_new_key_alone() {
        let remap = remap(&[("freeze", "z"), ("pause", "space")]).unwrap();
        assert_eq!(known(&remap, 'z'), Some(KeyCode::Char(' ')));
        assert_eq!(known(&remap, ' '), Some(KeyCode::Char('p')));
        assert_eq!(known(&remap, 'p'), None);
        assert_eq!(known(&remap, 'q'), Some(KeyCode::Char('q')));
        // What is no action's key stays what it is: digits of views.
        assert_eq!(known(&remap, '7'), Some(KeyCode::Char('7')));
        assert_eq!(
            (remap.shown("Space"), remap.shown("p"), remap.shown("s S")),
            ("z".into(), "Space".into(), "s S".into())
        );
    }

    #[test]
    fn without_changes_every_key_is_its_own() {
        let remap = Remap::default();
        for key in (' '..='~').map(KeyCode::Char).chain([KeyCode::Enter, KeyCode::Esc]) {
            let event = KeyEvent::new(key, KeyModifiers::NONE);
            assert_eq!(remap.known(event), Some(event));
        }
        assert_eq!(remap.shown("Up Down"), "Up Down");
    }

    #[test]
    fn what_cannot_be_is_told() {
        let told = |pairs: &[(&str, &str)]| remap(pairs).unwrap_err().to_string();
        assert_eq!(told(&[("freze", "z")]), "there is no action \"freze\"; \"freeze\", perhaps");
        assert_eq!(told(&[("freeze", "zz")]), "freeze = \"zz\": one character is a key, or \"space\"");
        assert_eq!(told(&[("freeze", "q")]), "'q' is the key of both quit and freeze");
    }
}

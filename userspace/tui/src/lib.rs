//! dsascope's live view: keys become commands ([`keymap`]), one updater changes the state ([`app`]), [`view`] draws it.
//!
//! Owns what is on the screen and what a key does. Refuses: terminals, clocks, threads and where events come from; the runner in the
//! command-line crate has those.

pub mod app;
mod baseline;
mod batches;
mod faults;
pub mod format;
pub mod keymap;
pub mod layout;
pub mod remap;
pub mod replay;
pub mod rows;
pub mod search;
pub mod theme;
pub mod view;
pub mod views;
pub mod words;

pub use app::{Actions, App, Input};
pub use baseline::Baseline;
pub use faults::Entry;
pub use replay::{Ask, Replay};
pub use theme::Theme;
pub use views::View;

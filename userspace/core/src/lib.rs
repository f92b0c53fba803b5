//! dsascope's pure core: decodes what the kernel side sends, follows each fault, counts, and knows what it does not know.
//!
//! Path of a record: bytes -> [`record`] (decode, place holes) -> [`event::Event`] -> [`model::Model::update`] -> views,
//! [`json`] lines. Time is an input everywhere: nothing here reads a clock, a file or a device.
//!
//! Refuses: aya, tokio, ratatui, clap, and every kind of I/O.

pub mod btf;
pub mod compare;
pub mod decode;
pub mod driver;
pub mod event;
pub mod expression;
pub mod fault;
pub mod filter;
pub mod findings;
pub mod hex;
pub mod hist;
pub mod json;
pub mod known_kernels;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod name;
pub mod page_request;
pub mod probe;
pub mod quantity;
pub mod rate;
pub mod record;
pub mod report;
pub mod sizing;
pub mod stages;
pub mod submission;
pub mod trigger;

#[cfg(test)]
mod testing;

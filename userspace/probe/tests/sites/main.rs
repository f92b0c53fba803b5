//! The site finder against programs assembled here, by GNU as, and by everybody else; and against files that are broken on purpose.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod corpus;
mod forms;
mod hostile;
mod linked;
mod safety;
mod sample;
mod usdt;

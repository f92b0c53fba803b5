//! Captures: the event stream as a file, and back.
//!
//! Owns the format (docs/capture.md), its writer and its reader. Refuses: deciding what is recorded, clocks, anything but files.

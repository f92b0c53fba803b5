//! What a person at the terminal reads while something takes long: one line a step, on stderr.
//!
//! Refuses: writing to stdout, which belongs to results.

use std::time::Instant;

use anyhow::Result;

/// Says something on stderr under the program's name.
pub fn say(text: impl AsRef<str>) {
    eprintln!("xtask: {}", text.as_ref());
}

/// Runs a slow step and says before that it runs and after how long it took.
pub fn step<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    say(format!("{what} ..."));
    let started = Instant::now();
    let result = run()?;
    say(format!("{what}: done in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(result)
}

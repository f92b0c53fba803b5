//! What has to be said beside the output: on stderr, a line each.

use dsascope_capture::Notice;

use crate::units::show_size;

pub(crate) fn text(notice: &Notice) -> String {
    match notice {
        Notice::Saved { path, bytes } => format!("{} of events in {}", show_size(*bytes), path.display()),
        Notice::Saving { path, why } => format!("{why}: saving to {}", path.display()),
        Notice::Failed { what } => what.clone(),
        Notice::Incomplete { path, events } => {
            format!("{events} events are MISSING in {}: they could not be written", path.display())
        }
        Notice::Full { path } => {
            format!("{} is as large as --max-size allows: nothing more is recorded", path.display())
        }
    }
}

pub(crate) fn print(notices: &mut dyn Iterator<Item = Notice>) {
    for notice in notices {
        eprintln!("dsascope: {}", text(&notice));
    }
}

/// What of a capture could not be read. True when there was any.
pub(crate) fn damage(lines: &[String]) -> bool {
    for line in lines {
        eprintln!("dsascope: {line}");
    }
    !lines.is_empty()
}

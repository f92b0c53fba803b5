//! Quantities as short text of a bounded width. A missing value is `-`, never 0.

use dsascope_core::quantity;
pub use dsascope_core::quantity::{moment, rate};

use crate::theme::Theme;

/// Nanoseconds with three significant digits and a unit: at most 6 columns (`83.1µs`).
pub fn duration(theme: &Theme, ns: u64) -> String {
    quantity::duration(ns, theme.micro())
}

pub fn optional_duration(theme: &Theme, ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".into(), |ns| duration(theme, ns))
}

/// A count in at most 5 columns up to 10^15: `99999`, `123k`, `4.56M`.
pub fn count(n: u64) -> String {
    if n < 100_000 {
        return n.to_string();
    }
    rate(n as f64)
}

/// Time since the start of the session: `12.345678` below a minute's sixty, `3:07.1`, `2:15:09`.
pub fn elapsed(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

/// At most `width` columns; cut text ends in `~`. Control characters (a command name may hold any byte) become `?`.
pub fn fit(text: &str, width: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    if text.chars().count() <= width {
        return clean.collect();
    }
    let mut cut: String = clean.take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('~');
    }
    cut
}

/// Like [`fit`], but cuts at the front: of a path the end says most.
pub fn fit_end(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width || width == 0 {
        return fit(text, width);
    }
    let tail: String =
        text.chars().skip(length - (width - 1)).map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("~{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASCII: Theme = Theme::PLAIN;

    #[test]
    fn durations_stay_in_six_columns() {
        let mut ns: u64 = 1;
        while ns < 3_600_000_000_000 * 999 {
            for ns in [ns - 1, ns, ns + ns / 3, ns * 2] {
                let text = duration(&ASCII, ns);
                assert!(text.len() <= 6, "{ns} -> {text}");
            }
            ns *= 10;
        }
        assert_eq!(duration(&ASCII, 83_149), "83.1us");
        assert_eq!(duration(&ASCII, 999_499), "999us");
        assert_eq!(duration(&ASCII, 999_500), "1.00ms");
        assert_eq!(duration(&ASCII, 0), "0ns");
        assert_eq!(optional_duration(&ASCII, None), "-");
    }

    #[test]
    fn counts_stay_in_five_columns() {
        for n in [0, 99_999, 100_000, 999_499, 999_500, 123_456_789, 999_999_999_999, 10_u64.pow(14)] {
            assert!(count(n).len() <= 5, "{n} -> {}", count(n));
        }
        assert_eq!(count(123_456), "123k");
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(12.34), "12.3");
        assert_eq!(rate(f64::NAN), "-");
    }

    #[test]
    fn text_is_cut_and_cleaned() {
        assert_eq!(fit("redis-server", 8), "redis-s~");
        assert_eq!(fit("a\x1b[31m", 8), "a?[31m");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(fit_end("/system.slice/redis.service", 10), "~s.service");
    }
}

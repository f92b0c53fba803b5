//! Quantities as short text of a bounded width, written one way in every output.

/// Nanoseconds with three significant digits and a unit: at most 6 columns (`83.1µs`). `micro`: how microseconds are written.
#[must_use]
pub fn duration(ns: u64, micro: &str) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..999_500 => (ns as f64 / 1e3, micro),
        999_500..999_500_000 => (ns as f64 / 1e6, "ms"),
        999_500_000..=999_499_999_999 => (ns as f64 / 1e9, "s"),
        _ => (ns as f64 / 3.6e12, "h"),
    };
    format!("{}{unit}", three_digits(value))
}

/// A value with three significant digits: `0`, `0.25`, `12.3`, `456`, `1.2k`.
#[must_use]
pub fn rate(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    let (value, unit) = match value {
        v if v < 999.5 => (v, ""),
        v if v < 999.5e3 => (v / 1e3, "k"),
        v if v < 999.5e6 => (v / 1e6, "M"),
        v if v < 999.5e9 => (v / 1e9, "G"),
        v => (v / 1e12, "T"),
    };
    if value == 0.0 {
        return "0".into();
    }
    format!("{}{unit}", three_digits(value))
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A moment of the session with microseconds: `12.345678`.
#[must_use]
pub fn moment(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}

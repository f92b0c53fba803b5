//! Quantities as people type them: durations (`500ms`, `10s`, `2m`) and sizes (`64KiB`, `4MiB`).
//!
//! Refuses: fractions, negative numbers and unknown suffixes; each error names the text and what would do.

use std::str::FromStr;
use std::time::Duration;

use dsascope_core::expression::ConditionError;
use dsascope_tui::search::Search;

use crate::replay::Speed;

/// Parses `<number><ms|s|m|h>`; a bare number is seconds. Zero is refused.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let ms_per_unit: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{text}`: use a whole number of ms, s, m or h, such as 500ms or 10s")),
    };
    match number.checked_mul(ms_per_unit) {
        Some(0) => Err(format!("`{text}`: must be longer than nothing")),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(format!("`{text}`: too long")),
    }
}

/// Parses `<number><us|ms|s|m|h>`; nothing (`0`) is nothing.
pub(crate) fn fine_duration(text: &str) -> Result<Duration, String> {
    match split(text)? {
        (0, _) => Ok(Duration::ZERO),
        (number, "us") => Ok(Duration::from_micros(number)),
        _ => duration(text),
    }
}

/// Parses `<number>[KiB|MiB|GiB]` (also K, M, G; always powers of 1024) into bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("`{text}`: use bytes, KiB or MiB, such as 65536, 64KiB or 4MiB")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}`: too large"))
}

/// Parses a condition or a filter. The error begins on a line of its own, so that its mark stands below the place.
pub(crate) fn expression<T: FromStr<Err = ConditionError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: ConditionError| format!("\n{error}"))
}

/// What the live view is to begin with: words, or an expression that is one.
pub(crate) fn search(text: &str) -> Result<String, String> {
    match Search::new(text).error() {
        Some(error) => Err(format!("\n{error}")),
        None => Ok(text.into()),
    }
}

/// As the stream counts time.
pub(crate) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Parses how fast a capture is played: a number from 0.1 to 1000, or `max`.
pub(crate) fn speed(text: &str) -> Result<Speed, String> {
    match text.trim() {
        "max" => Ok(Speed::Max),
        number => match number.trim_end_matches('x').parse::<f64>() {
            Ok(times) if (0.1..=1000.0).contains(&times) => Ok(Speed::Times(times)),
            _ => Err(format!("`{text}`: use a number from 0.1 to 1000, or max")),
        },
    }
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.parse().map_err(|_| format!("`{text}`: must start with a whole number"))?;
    Ok((number, unit.trim_start()))
}

/// Bytes in the largest unit that divides them.
pub(crate) fn show_bytes(bytes: u64) -> String {
    match bytes {
        b if b > 0 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b > 0 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

/// Bytes in about three digits.
pub(crate) fn show_size(bytes: u64) -> String {
    let size = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{:.1} KiB", size / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", size / 1_048_576.0),
        _ => format!("{:.2} GiB", size / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "1.5s", "-1s", "3 weeks", "0", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fine_durations() {
        assert_eq!(fine_duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(fine_duration("0"), Ok(Duration::ZERO));
        assert_eq!(fine_duration("2ms"), Ok(Duration::from_millis(2)));
        assert!(fine_duration("2ns").is_err());
    }

    #[test]
    fn speeds() {
        assert_eq!(speed("max"), Ok(Speed::Max));
        assert_eq!(speed("0.5"), Ok(Speed::Times(0.5)));
        assert_eq!(speed("10x"), Ok(Speed::Times(10.0)));
        for bad in ["", "0", "0.01", "NaN", "inf", "-1", "fast"] {
            assert!(speed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64KiB"), Ok(65536));
        assert_eq!(bytes("4m"), Ok(4 << 20));
        for bad in ["", "KiB", "4TiBs", "1.5M", "18446744073709551615G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(show_bytes(4 << 20), "4 MiB");
        assert_eq!(show_bytes(64 << 10), "64 KiB");
        assert_eq!(show_bytes(1000), "1000 bytes");
    }
}

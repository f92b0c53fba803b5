//! Prometheus' text format 0.0.4 and `OpenMetrics` 1.0: lines, which differ in little.

use std::fmt::{self, Write};

use dsascope_core::metrics::{Metric, MetricKind};

use super::{Distribution, Family, Scrape, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Prometheus,
    OpenMetrics,
}

pub(super) fn encode(scrape: &Scrape, dialect: Dialect) -> Vec<u8> {
    let mut out = String::new();
    for family in scrape.families() {
        // A String takes everything.
        let _ = write_family(&mut out, family, dialect);
    }
    if dialect == Dialect::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out.into_bytes()
}

fn write_family(out: &mut String, family: &Family, dialect: Dialect) -> fmt::Result {
    let Metric { name, kind, help, unit, labels } = *family.metric;
    // OpenMetrics names a family of counters without the ending of its samples.
    let title = match dialect {
        Dialect::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        Dialect::Prometheus => name,
    };
    writeln!(out, "# HELP {title} {}", Escaped { text: help, quotes: dialect == Dialect::OpenMetrics })?;
    writeln!(out, "# TYPE {title} {}", kind.name())?;
    if dialect == Dialect::OpenMetrics && !unit.is_empty() {
        writeln!(out, "# UNIT {title} {unit}")?;
    }
    for (values, value) in &family.samples {
        let set = Labels { names: labels, values, bound: None };
        match value {
            Value::Count(count) => writeln!(out, "{name}{set} {count}")?,
            Value::Float(float) => writeln!(out, "{name}{set} {float}")?,
            Value::Histogram(distribution) => write_histogram(out, name, set, distribution)?,
        }
    }
    debug_assert!(kind == MetricKind::Histogram || !family.samples.values().any(is_histogram), "{name}");
    Ok(())
}

const fn is_histogram(value: &Value) -> bool {
    matches!(value, Value::Histogram(_))
}

fn write_histogram(out: &mut String, name: &str, set: Labels<'_>, whole: &Distribution) -> fmt::Result {
    for (bound_ns, count) in whole.cumulative() {
        writeln!(out, "{name}_bucket{} {count}", Labels { bound: Some(Bound(bound_ns)), ..set })?;
    }
    writeln!(out, "{name}_sum{set} {}", whole.sum_seconds())?;
    writeln!(out, "{name}_count{set} {}", whole.count())
}

/// `{name="value",…}`, or nothing.
#[derive(Clone, Copy)]
struct Labels<'a> {
    names: &'static [&'static str],
    values: &'a [String],
    bound: Option<Bound>,
}

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = '{';
        for (name, value) in self.names.iter().zip(self.values) {
            write!(f, "{before}{name}=\"{}\"", Escaped { text: value, quotes: true })?;
            before = ',';
        }
        if let Some(bound) = self.bound {
            write!(f, "{before}le=\"{bound}\"")?;
            before = ',';
        }
        if before == ',' { f.write_char('}') } else { Ok(()) }
    }
}

/// A bucket's upper bound in seconds, as Prometheus itself writes it, so that all encodings make the same series.
#[derive(Clone, Copy)]
struct Bound(Option<u64>);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("+Inf"),
            Some(ns) if ns < 100_000 => {
                let text = format!("{:e}", ns as f64 / 1e9);
                let (digits, exponent) = text.split_once("e-").unwrap_or((&text, "0"));
                write!(f, "{digits}e-{exponent:0>2}")
            }
            Some(ns) => write!(f, "{:?}", ns as f64 / 1e9),
        }
    }
}

struct Escaped<'a> {
    text: &'a str,
    quotes: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '\n' => f.write_str("\\n"),
            '"' if self.quotes => f.write_str("\\\""),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_prometheus_does() {
        let written = |ns| Bound(Some(ns)).to_string();
        assert_eq!(written(1_000), "1e-06");
        assert_eq!(written(50_000), "5e-05");
        assert_eq!(written(100_000), "0.0001");
        assert_eq!(written(1_000_000_000), "1.0");
        assert_eq!(written(60_000_000_000), "60.0");
        assert_eq!(Bound(None).to_string(), "+Inf");
    }

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        let escaped = |text| Escaped { text, quotes: true }.to_string();
        assert_eq!(escaped("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
        assert_eq!(Escaped { text: "\"", quotes: false }.to_string(), "\"");
    }
}

//! The choice of encoding by what a scraper accepts.

/// The encodings there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Prometheus' text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Delimited messages of `io.prometheus.client.MetricFamily`: the one with native histograms.
    Protobuf,
}

impl Encoding {
    pub const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// What an `Accept` header asks for most, the first of several; text when it names nothing that there is.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let parameter = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.trim().trim_matches('"'))
            };
            let encoding = match (media.as_str(), parameter("version")) {
                ("text/plain", None | Some("0.0.4")) | ("*/*" | "text/*", _) => Self::Text,
                ("application/openmetrics-text", None | Some("1.0.0")) => Self::OpenMetrics,
                ("application/vnd.google.protobuf", _)
                    if parameter("proto") == Some("io.prometheus.client.MetricFamily")
                        && parameter("encoding") == Some("delimited") =>
                {
                    Self::Protobuf
                }
                _ => continue,
            };
            let quality = parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
            if quality > best.1 {
                best = (encoding, quality);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_there_is() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                          application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Encoding::accepted(prometheus), Encoding::Protobuf);
        for (accept, encoding) in [
            ("", Encoding::Text),
            ("*/*", Encoding::Text),
            ("application/json", Encoding::Text),
            ("application/openmetrics-text; version=1.0.0", Encoding::OpenMetrics),
            ("application/openmetrics-text; version=2.0.0, text/plain;q=0.1", Encoding::Text),
            ("text/plain;q=0.3,application/openmetrics-text;version=\"1.0.0\";q=0.4", Encoding::OpenMetrics),
            ("application/openmetrics-text;q=0", Encoding::Text),
            ("application/vnd.google.protobuf", Encoding::Text),
            (";;=,q=,\u{e9}", Encoding::Text),
        ] {
            assert_eq!(Encoding::accepted(accept), encoding, "{accept}");
        }
    }
}

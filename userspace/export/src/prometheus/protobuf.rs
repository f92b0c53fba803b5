//! Delimited protobuf messages, with classic and native buckets in one histogram. Only the fields that we send are declared.

use dsascope_core::metrics::MetricKind;
use prost::Message;

use super::{Distribution, Family, SCHEMA, Scrape, Value, ZERO_NS};

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// A gauge, or a counter, which has more fields.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

pub(super) fn encode(scrape: &Scrape) -> Vec<u8> {
    scrape.families().flat_map(|family| message(family).encode_length_delimited_to_vec()).collect()
}

fn message(family: &Family) -> MetricFamily {
    let metric = family.metric;
    MetricFamily {
        name: Some(metric.name.into()),
        help: Some(metric.help.into()),
        kind: Some(match metric.kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Histogram => 4,
        }),
        unit: Some(metric.unit).filter(|unit| !unit.is_empty()).map(Into::into),
        metric: family.samples.iter().map(|(values, value)| sample(metric, values, value)).collect(),
    }
}

fn sample(metric: &dsascope_core::metrics::Metric, values: &[String], value: &Value) -> Metric {
    let pair =
        |(&name, value): (&&str, &String)| LabelPair { name: Some(name.into()), value: Some(value.clone()) };
    let mut sample =
        Metric { label: metric.labels.iter().zip(values).map(pair).collect(), ..Metric::default() };
    let number = match value {
        Value::Count(count) => *count as f64,
        Value::Float(float) => *float,
        Value::Histogram(whole) => {
            sample.histogram = Some(histogram(whole));
            return sample;
        }
    };
    let number = Some(Number { value: Some(number) });
    match metric.kind {
        MetricKind::Counter => sample.counter = number,
        MetricKind::Gauge | MetricKind::Histogram => sample.gauge = number,
    }
    sample
}

fn histogram(whole: &Distribution) -> Histogram {
    let bucket = |(bound_ns, count): (Option<u64>, u64)| Bucket {
        cumulative_count: Some(count),
        upper_bound: Some(bound_ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9)),
    };
    let (spans, deltas) = whole.spans();
    Histogram {
        sample_count: Some(whole.count()),
        sample_sum: Some(whole.sum_seconds()),
        bucket: whole.cumulative().map(bucket).collect(),
        schema: Some(SCHEMA),
        zero_threshold: Some(ZERO_NS as f64 / 1e9),
        zero_count: Some(whole.zero()),
        positive_span: spans
            .iter()
            .map(|span| BucketSpan { offset: Some(span.offset), length: Some(span.length) })
            .collect(),
        positive_delta: deltas,
    }
}

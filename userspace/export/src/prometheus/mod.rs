//! Prometheus' view: all samples of the metric catalogue from a model, and the three encodings that scrapers ask for.
//!
//! Owns: which model figure is which metric's value, the choice of processes with series of their own, histograms in classic and native
//! form, the wire formats and the choice among them. Refuses: sockets and clocks.
//!
//! The encoders are ours because `prometheus-client` keeps metrics that are counted up in place and knows no native histogram made from
//! recorded values; here everything is read from the model at once, and one reading serves all encodings.

mod admitted;
mod histogram;
mod negotiate;
mod protobuf;
mod samples;
mod text;

use std::collections::BTreeMap;

use dsascope_core::metrics::{CATALOGUE, Metric};

pub use admitted::QUIET_NS;
pub use histogram::{Distribution, SCHEMA, ZERO_NS};
pub use negotiate::Encoding;
pub use samples::{Gatherer, Own};

/// Value of one sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Count(u64),
    Float(f64),
    Histogram(Box<Distribution>),
}

/// One metric's samples, by the values of its labels in the catalogue's order.
#[derive(Clone, Debug)]
pub struct Family {
    pub metric: &'static Metric,
    pub samples: BTreeMap<Vec<String>, Value>,
}

/// All samples of one moment, in the catalogue's order.
#[derive(Clone, Debug)]
pub struct Scrape {
    families: Vec<Family>,
}

impl Default for Scrape {
    fn default() -> Self {
        let families = CATALOGUE.iter().map(|metric| Family { metric, samples: BTreeMap::new() }).collect();
        Self { families }
    }
}

impl Scrape {
    /// Metrics that have samples.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.iter().filter(|family| !family.samples.is_empty())
    }

    /// Time series that a scraper of classic histograms makes of it.
    #[must_use]
    pub fn series(&self) -> usize {
        let of = |value: &Value| match value {
            Value::Count(_) | Value::Float(_) => 1,
            // Buckets, count and sum.
            Value::Histogram(_) => Distribution::BUCKETS + 2,
        };
        self.families.iter().flat_map(|family| family.samples.values()).map(of).sum()
    }

    #[must_use]
    pub fn get(&self, metric: &Metric, labels: &[&str]) -> Option<&Value> {
        let family = self.families.iter().find(|family| family.metric.name == metric.name)?;
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        family.samples.get(&labels)
    }

    fn set(&mut self, metric: &Metric, labels: Vec<String>, value: Value) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        if let Some(family) = self.families.iter_mut().find(|family| family.metric.name == metric.name) {
            family.samples.insert(labels, value);
        }
    }

    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Text => text::encode(self, text::Dialect::Prometheus),
            Encoding::OpenMetrics => text::encode(self, text::Dialect::OpenMetrics),
            Encoding::Protobuf => protobuf::encode(self),
        }
    }
}

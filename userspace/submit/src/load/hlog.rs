//! HdrHistogram's interval log (V2, deflated) of a load: one tag a latency, and one an operation.
//!
//! A tag is `latency=intended`, `latency=service`, `latency=first_fault`, `latency=resumes` (counts, not nanoseconds) or
//! `latency=service;operation=NAME`. Intervals without any have no line.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use super::Tally;

const LEGEND: &str =
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";

/// See the module.
pub struct Hlog<W> {
    out: W,
    serializer: V2DeflateSerializer,
    groups: Vec<String>,
}

impl<W> std::fmt::Debug for Hlog<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hlog").field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl<W: Write> Hlog<W> {
    /// Writes the head; `began`: when the run's time was zero.
    pub fn begin(mut out: W, began: SystemTime, groups: &[String]) -> io::Result<Self> {
        let mut serializer = V2DeflateSerializer::new();
        let mut head = IntervalLogWriterBuilder::new();
        head.add_comment("[Histogram log format version 1.3]");
        head.add_comment("dsascope submit; values: nanoseconds, of latency=resumes counts");
        head.with_start_time(began).with_base_time(began);
        head.begin_log_with(&mut out, &mut serializer)?;
        writeln!(out, "{LEGEND}")?;
        let groups = groups.iter().map(|group| group.replace(' ', "_")).collect();
        Ok(Self { out, serializer, groups })
    }

    /// What came between two times of the run.
    pub fn interval(&mut self, from: Duration, to: Duration, tally: &Tally) -> io::Result<()> {
        let mut log = IntervalLogWriterBuilder::new().begin_log_with(&mut self.out, &mut self.serializer)?;
        let mut write = |histogram: &Histogram<u64>, tag: &str| {
            if histogram.is_empty() {
                return Ok(());
            }
            log.write_histogram(histogram, from, to.saturating_sub(from), Tag::new(tag)).map_err(|error| {
                match error {
                    IntervalLogWriterError::IoError(source) => source,
                    IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
                }
            })
        };
        write(&tally.intended, "latency=intended")?;
        write(&tally.service, "latency=service")?;
        write(&tally.first_fault, "latency=first_fault")?;
        write(&tally.resumes, "latency=resumes")?;
        for (group, of_job) in self.groups.iter().zip(&tally.jobs) {
            write(&of_job.service, &format!("latency=service;operation={group}"))?;
        }
        Ok(())
    }

    pub fn end(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use hdrhistogram::serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    };

    use super::*;
    use crate::load::End;

    #[test]
    fn what_is_written_is_read_back_whole() {
        let mut out = Vec::new();
        let mut log = Hlog::begin(&mut out, SystemTime::UNIX_EPOCH, &["batch of noop".into()]).unwrap();
        let mut tally = Tally::new(1);
        for ns in 1..=100 {
            let end = End { measured: true, sent_ns: Some(1000), ended_ns: 1000 + ns * 10, ..End::default() };
            tally.end(&end);
        }
        log.interval(Duration::from_secs(1), Duration::from_secs(2), &tally).unwrap();
        log.end().unwrap();
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(&out) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &*bytes).unwrap();
            assert_eq!((interval.start_timestamp().as_secs(), interval.duration().as_secs()), (1, 1));
            found.push((interval.tag().unwrap().as_str().to_owned(), histogram));
        }
        let tags: Vec<&str> = found.iter().map(|(tag, _)| &**tag).collect();
        let of_operation = "latency=service;operation=batch_of_noop";
        assert_eq!(tags, ["latency=intended", "latency=service", "latency=resumes", of_operation]);
        assert_eq!(found[1].1, tally.service);
    }
}

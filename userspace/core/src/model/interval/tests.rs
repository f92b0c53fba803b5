//! What the model derives, the whole as a sum of files and the interval as a difference of wholes, against figures that are recorded
//! one by one.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use proptest::prelude::*;

use super::super::{Counts, Limits, Model};
use crate::event::{CopyOutcome, Event, Fault, Release};
use crate::hist::{Bar, StageHistograms, Summary};
use crate::stages::Stage;
use crate::testing::{context, fault};

const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Fault { process: u32, times: [u64; 6], failed: bool, ended: bool, operation: u8 },
    Close { process: u32 },
    Tick,
    Interval,
}

/// Stages of all lengths, some of them not observed, some beyond a histogram's range.
fn step() -> impl Strategy<Value = Step> {
    let time = (0u32..40, any::<u64>()).prop_map(|(bits, random)| random % (1 << bits));
    let times = prop::array::uniform6(time);
    let fault = (0u32..9, times, any::<bool>(), 0u8..8, 0u8..4).prop_map(
        |(process, times, failed, ended, operation)| Step::Fault {
            process,
            times,
            failed,
            ended: ended > 0,
            operation,
        },
    );
    prop_oneof![
        20 => fault,
        1 => (0u32..9).prop_map(|process| Step::Close { process }),
        1 => Just(Step::Tick),
        1 => Just(Step::Interval),
    ]
}

fn figures(latency: &StageHistograms) -> Vec<(Option<Summary>, Vec<Bar>)> {
    let of = |stage| latency.get(stage).filter(|latency| latency.count() > 0);
    let figures =
        |stage| (latency.summary_now(stage), of(stage).map_or(Vec::new(), |latency| latency.bars(10)));
    Stage::ALL.into_iter().map(figures).collect()
}

/// Everything recorded where it belongs, and nothing derived.
#[derive(Default)]
struct Naive {
    whole: StageHistograms,
    interval: StageHistograms,
    by_wq: BTreeMap<u16, StageHistograms>,
    counts: Counts,
}

impl Naive {
    fn fault(&mut self, fault: &Fault) {
        let durations = fault.durations();
        let by_wq = self.by_wq.entry(fault.context.wq).or_default();
        for latency in [&mut self.whole, &mut self.interval, by_wq] {
            latency.record(&durations);
        }
        self.counts.add(fault);
    }
}

proptest! {
    // Figures of full-range histograms cost milliseconds without optimisation.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_derived_is_what_would_have_been_recorded(steps in prop::collection::vec(step(), 0..120)) {
        let limits = Limits { processes: 4, histograms: 2, ..Limits::default() };
        let (mut model, mut naive, mut now_ns) = (Model::new(limits), Naive::default(), 1 << 50);
        for step in steps {
            now_ns += SECOND / 10;
            match step {
                Step::Fault { process, times, failed, ended, operation } => {
                    let mut sample = fault(context(0, (process % 3) as u16, process), now_ns);
                    let at = |stage: usize| NonZeroU64::new(if times[stage] == 0 { 0 } else { now_ns - times[stage] });
                    let t = &mut sample.times;
                    (t.interrupt_ns, t.queued_ns, t.started_ns) = (at(0), at(1), at(2));
                    (t.copy_start_ns, t.copy_end_ns, t.done_ns) = (at(3), at(4), at(5));
                    if failed {
                        sample.copy = CopyOutcome::Short { asked: 32, done: 0 };
                    }
                    sample.marks.end_missing = !ended;
                    sample.entry = sample.entry.with_operation(operation);
                    naive.fault(&sample);
                    model.update(&Event::Fault(sample));
                }
                Step::Close { process } => model.update(&Event::Release(Release {
                    at_ns: now_ns,
                    context: context(0, (process % 3) as u16, process),
                    start_ns: None,
                    drain_ns: None,
                    end_ns: None,
                    counter_faults: 0,
                    counter_failures: 0,
                    file: 0,
                    skipped: 0,
                })),
                Step::Tick => {
                    now_ns += SECOND;
                    model.update(&Event::Tick { now_ns });
                    model.refresh();
                    prop_assert_eq!(figures(model.latency_shown()), figures(&naive.whole));
                    for stage in Stage::ALL {
                        prop_assert_eq!(model.latency_shown().summary(stage), naive.whole.summary_now(stage));
                    }
                }
                Step::Interval => {
                    let interval = model.next_interval();
                    prop_assert_eq!(figures(&interval.latency), figures(&naive.interval));
                    prop_assert_eq!(interval.counts, std::mem::take(&mut naive.counts));
                    naive.interval = StageHistograms::default();
                }
            }
        }
        prop_assert_eq!(figures(&model.latency()), figures(&naive.whole));
        for (wq, latency) in &naive.by_wq {
            prop_assert_eq!(figures(&model.wq_latency(context(0, *wq, 0).wq_id())), figures(latency));
        }
    }
}

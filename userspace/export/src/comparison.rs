//! Two runs beside each other as a page: the figures of `dsascope diff`, and the histograms over each other.
//!
//! One file, without scripts and without anything from elsewhere. Text from captures is escaped by the template.

use dsascope_core::compare::{Checked, Comparison, Estimate, GroupChange, Run, Severity, StageChange};
use dsascope_core::hist::{Latency, bar_pairs};
use maud::{Markup, html};

use crate::page::{Look, document};

/// Bars of a histogram in a decade.
const BARS_A_DECADE: u32 = 20;
/// Of a drawn histogram, in the units of its picture.
const BAR_WIDTH: u64 = 8;
const HEIGHT: u64 = 120;

const LOOK: Look = Look {
    policy: "default-src 'none'; style-src 'sha256-FJwQzvypd894AvHNJATpAUFGLLX6rUa6uz8kIOOBn8w='; base-uri 'none'; form-action 'none'",
    style: "
:root { color-scheme: light dark; --a: #0072b2; --b: #d55e00; --line: #8884; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .15rem .8rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.certain { font-weight: 600; } .note { opacity: .75; }
.a { color: var(--a); } .b { color: var(--b); }
svg { width: 100%; max-height: 10rem; } svg .a { fill: var(--a); opacity: .55; } svg .b { fill: var(--b); opacity: .55; }
@media print { body { max-width: none; margin: 0; } section { break-inside: avoid; } }
",
};

/// The whole page. `names`: what the two are called.
#[must_use]
pub fn page(comparison: &Comparison, a: &Run, b: &Run, name_a: &str, name_b: &str) -> String {
    let body = html! {
                h1 { "Two runs of completion-record faults" }
                p { span.a { "A " (name_a) } br; span.b { "B " (name_b) } }
                @if !comparison.differences.is_empty() {
                    section {
                        h2 { "What is not the same" }
                        table {
                            tr { th { "what" } th { "A" } th { "B" } }
                            @for difference in &comparison.differences {
                                tr {
                                    td {
                                        (difference.what)
                                        @if difference.severity == Severity::Refuse { " (figures do not mean the same)" }
                                    }
                                    td { (difference.a) }
                                    td { (difference.b) }
                                }
                            }
                        }
                    }
                }
                @if !comparison.conditions.is_empty() {
                    section {
                        h2 { "Conditions" }
                        table {
                            @for Checked { condition, verdict } in &comparison.conditions {
                                tr.certain[verdict.fails()] {
                                    td { (condition) }
                                    td { @if verdict.fails() { "failed: " } @else { "ok: " } (verdict.words()) }
                                }
                            }
                        }
                    }
                }
                @for group in &comparison.groups { (group_section(group, a, b)) }
                p.note {
                    "Bold: the change is certain (95 %). Percentiles are at most "
                    (comparison.bucket_error * 100.0) " % too high. Events lost: "
                    (comparison.lost_a) " of A, " (comparison.lost_b) " of B."
                }
    };
    document(&format!("dsascope: {name_a} and {name_b}"), &LOOK, &body)
}

fn group_section(group: &GroupChange, a: &Run, b: &Run) -> Markup {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    html! {
        section {
            h2 { (group.group) }
            p {
                "faults " (group.faults_a) " / " (group.faults_b)
                ", failed " (group.failures_a) " / " (group.failures_b)
                ", " (rate(group.faults_per_s_a)) " / " (rate(group.faults_per_s_b)) " a second"
            }
            @for stage in &group.stages { (stage_part(stage, &group.group, a, b)) }
        }
    }
}

fn stage_part(stage: &StageChange, group: &str, a: &Run, b: &Run) -> Markup {
    let [of_a, of_b] = [a, b].map(|run| run.latency(group).and_then(|latency| latency.get(stage.stage)));
    let time = |estimate: Option<Estimate>| {
        estimate.map_or_else(|| "-".to_owned(), |estimate| microseconds(estimate.ns))
    };
    html! {
        h3 { (stage.stage.name()) }
        (overlay(of_a, of_b))
        table {
            tr { th { "µs" } th.a { "A" } th.b { "B" } th { "B/A" } }
            @for change in &stage.changes {
                tr.certain[change.certain == Some(true)] {
                    td { (change.figure.name()) }
                    td { (time(change.a)) }
                    td { (time(change.b)) }
                    td { (change.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))) }
                }
            }
        }
        @if let Some(slower) = stage.slower {
            p.note {
                "A fault of B is slower than one of A in " (format!("{:.0}", slower * 100.0)) " % of cases"
                @if !stage.shifted { "; that may be chance" } "."
            }
        }
    }
}

fn microseconds(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e3)
}

/// Both on one logarithmic axis, each to its own count.
fn overlay(a: Option<&Latency>, b: Option<&Latency>) -> Markup {
    let pairs = bar_pairs([a, b], BARS_A_DECADE);
    let rects = |side: usize, class: &str| {
        let most = pairs.iter().map(|pair| pair.counts[side]).max().unwrap_or(0).max(1);
        html! {
            @for (place, pair) in pairs.iter().enumerate().filter(|(_, pair)| pair.counts[side] > 0) {
                @let count = pair.counts[side];
                @let height = (count * HEIGHT).div_ceil(most);
                rect class=(class) x=(place as u64 * BAR_WIDTH) y=(HEIGHT - height) width=(BAR_WIDTH - 1) height=(height) {
                    title { (microseconds(pair.from_ns)) " to " (microseconds(pair.to_ns)) " µs: " (count) }
                }
            }
        }
    };
    let width = pairs.len().max(1) as u64 * BAR_WIDTH;
    html! {
        @if let (Some(first), Some(last)) = (pairs.first(), pairs.last()) {
            svg viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img"
                aria-label="histograms of both runs" {
                (rects(0, "a"))
                (rects(1, "b"))
            }
            p.note { (microseconds(first.from_ns)) " µs to " (microseconds(last.to_ns)) " µs, logarithmic" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsascope_core::compare::{By, Collector, compare};
    use dsascope_core::event::{Event, SessionInfo};
    use dsascope_core::model::Model;

    #[test]
    fn the_policy_is_for_this_style() {
        assert!(LOOK.policy.contains(&LOOK.allowance()), "{}", LOOK.allowance());
    }

    #[test]
    fn names_from_outside_are_text() {
        let run = |host: &str| {
            let mut model = Model::default();
            let session = SessionInfo { host: host.into(), ..SessionInfo::default() };
            model.update(&Event::Session(Box::new(session)));
            Collector::new(By::Stage).finish(&model)
        };
        let (a, b) = (run("<script>alert(1)</script>"), run("b"));
        let page = page(&compare(&a, &b), &a, &b, "<a>", "\"b\"");
        assert!(!page.contains("<script>") && !page.contains("<a>"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }
}

//! The figures as tables: aligned for a terminal, or Markdown for docs/performance.md.

use std::fmt::Write;

use super::figures::{Cost, Service, Traced};

pub(super) fn all(cost: &Cost, markdown: bool) -> String {
    let table = |titles: &[&str], rows: &[Vec<String>]| {
        if markdown { in_markdown(titles, rows) } else { aligned(titles, rows) }
    };
    let mut out = format!(
        "kernel {}, {} vCPU under TCG, {} faults a run, {} at a time, each figure from the quietest of {} rounds\n",
        cost.kernel, cost.cpus, cost.faults, cost.outstanding, cost.rounds
    );
    out += "\nDriver's service of a fault (ftrace, workqueue_execute_start to _end), µs\n\n";
    let mut rows = vec![service("without dsascope", &cost.untraced, &cost.untraced)];
    rows.extend(cost.traced.iter().map(|traced| service(&traced.name, &traced.service, &cost.untraced)));
    rows.push(service("without dsascope, loudest round", &cost.untraced_loudest, &cost.untraced));
    out += &table(&["attached by", "mean", "p50", "p99", "mean ratio", "p50 ratio"], &rows);
    out += "\nBPF programs (kernel.bpf_stats_enabled), and what starting costs\n\n";
    let rows: Vec<_> = cost.traced.iter().map(programs).collect();
    let titles = [
        "attached by",
        "ns a fault",
        "records",
        "ring bytes",
        "runs skipped",
        "attach ms",
        "start ms",
        "start CPU ms",
        "peak RSS MiB",
    ];
    out += &table(&titles, &rows);
    for traced in &cost.traced {
        let _ = write!(out, "\nPrograms, {}\n\n", traced.name);
        let rows: Vec<_> = traced
            .bpf
            .programs
            .iter()
            .map(|program| {
                vec![
                    program.name.clone(),
                    program.runs.to_string(),
                    format!("{:.0}", program.ns_per_run),
                    program.ns_per_fault.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.0}")),
                    program.verified_instructions.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                ]
            })
            .collect();
        out += &table(&["program", "runs", "ns a run", "ns a fault", "instructions verified"], &rows);
    }
    let idle = &cost.idle;
    let share = idle.cpu_ms as f64 / idle.seconds / 10.0;
    let _ = writeln!(
        out,
        "\nAt rest: {} ms of CPU in {:.1} s ({share:.2} % of one), peak RSS {:.1} MiB",
        idle.cpu_ms,
        idle.seconds,
        idle.peak_rss_kib as f64 / 1024.0
    );
    out
}

fn service(name: &str, service: &Service, untraced: &Service) -> Vec<String> {
    vec![
        name.to_owned(),
        format!("{:.1}", service.mean_us),
        service.p50_us.to_string(),
        service.p99_us.to_string(),
        format!("{:.2}", service.mean_us / untraced.mean_us),
        format!("{:.2}", service.p50_us as f64 / untraced.p50_us.max(1) as f64),
    ]
}

fn programs(traced: &Traced) -> Vec<String> {
    vec![
        traced.name.clone(),
        format!("{:.0}", traced.bpf.ns_per_fault),
        format!("{:.2}", traced.bpf.records_per_fault),
        format!("{:.0}", traced.bpf.ring_bytes_per_fault),
        traced.bpf.missed.to_string(),
        format!("{:.0}", traced.attach_ms),
        traced.start_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
        traced.cpu_until_ready_ms.to_string(),
        format!("{:.1}", traced.peak_rss_kib as f64 / 1024.0),
    ]
}

/// The first column left, all others right.
fn aligned(titles: &[&str], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let text: Vec<bool> = (0..titles.len()).map(|column| column == 0).collect();
    crate::reconcile::table::aligned(&titles, &text, rows)
}

fn in_markdown(titles: &[&str], rows: &[Vec<String>]) -> String {
    let mut out =
        format!("| {} |\n|---|{}\n", titles.join(" | "), "---:|".repeat(titles.len().saturating_sub(1)));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same_cells() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()]];
        assert_eq!(in_markdown(&["X", "N"], &rows), "| X | N |\n|---|---:|\n| a | 1 |\n");
        assert_eq!(aligned(&["X", "N"], &rows), "X  N\na  1\n");
    }
}

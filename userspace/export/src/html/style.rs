//! How pages look: light and dark, on paper, on narrow screens. Colours keep apart for every kind of colour vision (after Okabe and Ito),
//! and none says anything that a word or a place does not say too.

use crate::page::Look;

pub(super) const LOOK: Look = Look { policy: POLICY, style: STYLE };

const POLICY: &str = "default-src 'none'; style-src 'sha256-VsRUn6itnEU/aDWyrC/hFr1sN9pVQI1rOvLVICFMTZg='; base-uri 'none'; form-action 'none'";

const STYLE: &str = "
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1c2126; --soft: #5c6670; --line: #dfe3e6; --rule: #c4cacf;
  --data: #0072b2; --mark: #d55e00; --good: #00664b; --warn: #8a5a00; --bad: #a8321a;
  --good-bg: #dff3ec; --warn-bg: #fdf0d2; --bad-bg: #fbe3dc;
}
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171a; --card: #1c2125; --ink: #e8ebed; --soft: #9aa5ae; --line: #2d343a; --rule: #46505a;
  --data: #56b4e9; --mark: #ff9a4d; --good: #6fdcb8; --warn: #f2c14e; --bad: #ff9b85;
  --good-bg: #17352c; --warn-bg: #3a2f14; --bad-bg: #42211a;
} }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
header, main, footer { max-width: 70rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.5rem; }
.kicker { margin: 0; color: var(--data); font-weight: 600; letter-spacing: .08em; text-transform: uppercase; font-size: .75rem; }
h1 { margin: .2rem 0 .4rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; }
.host { overflow-wrap: anywhere; }
.sub { margin: 0 0 .6rem; color: var(--soft); }
.state { margin: 0 0 1.5rem; }
section { margin: 0 0 2.4rem; }
h2 { font-size: 1.2rem; margin: 0 0 .7rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .35rem; }
p { margin: .4rem 0; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.note, .cgroup, .none { color: var(--soft); }
.note { font-size: .87rem; }
.badge { display: inline-block; padding: .05rem .5rem; border-radius: 1rem; background: var(--line); font-size: .82rem; font-weight: 600; white-space: nowrap; }
.badge.good { background: var(--good-bg); color: var(--good); }
.badge.warn { background: var(--warn-bg); color: var(--warn); }
.badge.bad { background: var(--bad-bg); color: var(--bad); }
.alarm { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem; margin: 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.tile dt { color: var(--soft); font-size: .84rem; }
.tile dd { margin: .1rem 0; font-size: 1.7rem; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile p { margin: 0; color: var(--soft); font-size: .8rem; }
.finding, .fault { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem 1rem; margin: 0 0 .8rem; }
.finding { border-left: 4px solid var(--mark); }
.finding h3, .fault h3 { margin: 0 0 .2rem; }
.place { color: var(--soft); font-weight: 400; }
.who { font-weight: 400; color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
.stage { margin-right: 1rem; white-space: nowrap; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: right; padding: .34rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: .82rem; }
th:first-child, .words { text-align: left; }
td.words, th.words { white-space: normal; min-width: 9rem; }
th.range, td.range { width: 26%; min-width: 8rem; text-align: left; }
td.range svg { display: block; width: 100%; height: 1.35rem; }
.cgroup { display: block; font-weight: 400; font-size: .78rem; max-width: 22rem; overflow: hidden; text-overflow: ellipsis; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .8rem; }
figure svg { display: block; width: 100%; height: auto; }
.multiples { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .8rem; }
figcaption { margin-bottom: .2rem; }
.swatch { width: .65em; height: .65em; margin-right: .3em; }
.timeline { display: block; width: 100%; height: 1.1rem; margin: .4rem 0; }
details { margin-top: .3rem; }
summary { cursor: pointer; color: var(--data); font-size: .87rem; }
.sections { overflow-x: auto; }
.fields { margin: .5rem 0; font-size: .82rem; }
.fields caption { text-align: left; font-weight: 600; padding: .2rem .7rem; }
.fields td, .fields th { text-align: left; padding: .15rem .7rem; font-weight: 400; }
.fields td { white-space: normal; overflow-wrap: anywhere; }
code { font: .92em ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; }
footer { color: var(--soft); font-size: .84rem; padding-top: .8rem; padding-bottom: 2.5rem; }
svg text { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .thin { stroke: var(--rule); stroke-width: 1.5; }
svg .thick { fill: var(--data); opacity: .55; }
svg .bar, svg .cell { fill: var(--data); }
svg .mark, svg .failed { fill: var(--mark); }
svg .lost { fill: var(--bad); }
svg .quantile { stroke: var(--mark); stroke-width: 1; stroke-dasharray: 3 2; }
svg .s0 { fill: #999999; } svg .s1 { fill: #e69f00; } svg .s2 { fill: #56b4e9; } svg .s3 { fill: #0072b2; } svg .s4 { fill: #cc79a7; }
@media (max-width: 40rem) {
  header, main, footer { padding-left: .9rem; padding-right: .9rem; }
  h1 { font-size: 1.45rem; } .tile dd { font-size: 1.35rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .multiples { grid-template-columns: 1fr; }
  #map figure { overflow-x: auto; } #map svg { min-width: 38rem; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc; --rule: #999;
    --data: #0072b2; --mark: #d55e00; --good: #00664b; --warn: #8a5a00; --bad: #a8321a; --good-bg: #fff; --warn-bg: #fff; --bad-bg: #fff; }
  @page { margin: 14mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  html { font-size: 12px; } body { font-size: 9pt; }
  section { margin-bottom: 1.6rem; } header { padding-top: 0; } footer { padding-bottom: 0; }
  .tiles { grid-template-columns: repeat(6, 1fr); gap: .5rem; } .tile { padding: .5rem .6rem; }
  .multiples { grid-template-columns: repeat(3, 1fr); }
  header, main, footer { max-width: none; padding-left: 0; padding-right: 0; }
  .badge { border: 1px solid currentColor; }
  .keep, .tile, .finding, .wide, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .wide { overflow: visible; border: 0; }
  .wide th, .wide td { padding: .15rem .35rem; }
  th.range, td.range { width: 18%; min-width: 5rem; } td.words { min-width: 14rem; }
  details { display: none; }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_this_style() {
        assert!(POLICY.contains(&LOOK.allowance()), "{}", LOOK.allowance());
    }
}

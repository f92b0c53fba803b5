//! How a run ends: exit codes, and failures that carry the next step.
//!
//! The codes are an interface: listed in `--help`, docs/exit-codes.md (checked against [`Code::ALL`]) and used by scripts.

use std::fmt;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Ok = 0,
    Failure = 1,
    Usage = 2,
    NoDriver = 3,
    NoDevice = 4,
    NoPermission = 5,
    NoBtf = 6,
    NotTraceable = 7,
    Loss = 8,
    NotATerminal = 9,
    TerminalTooSmall = 10,
    BadInput = 11,
    NotComparable = 12,
    Regression = 13,
    Mismatch = 14,
    TimedOut = 15,
    Partial = 16,
}

impl Code {
    pub(crate) const ALL: [Self; 17] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::NoDriver,
        Self::NoDevice,
        Self::NoPermission,
        Self::NoBtf,
        Self::NotTraceable,
        Self::Loss,
        Self::NotATerminal,
        Self::TerminalTooSmall,
        Self::BadInput,
        Self::NotComparable,
        Self::Regression,
        Self::Mismatch,
        Self::TimedOut,
        Self::Partial,
    ];

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done, and nothing was lost",
            Self::Failure => "something else failed; the line on stderr says what",
            Self::Usage => "wrong option or value (also a ring size that is no power of two)",
            Self::NoDriver => "the idxd driver is not loaded",
            Self::NoDevice => "the driver has no DSA or IAA device",
            Self::NoPermission => {
                "missing CAP_BPF, CAP_PERFMON, CAP_SYSLOG or CAP_DAC_READ_SEARCH, or kernel lockdown"
            }
            Self::NoBtf => "the kernel has no BTF type information",
            Self::NotTraceable => "a required probe could not be attached",
            Self::Loss => {
                "stat, trace, record, export, serve: events were lost; totals are exact unless a line says so"
            }
            Self::NotATerminal => "live: stdin or stdout is not a terminal",
            Self::TerminalTooSmall => "live: the terminal was smaller than 60x15 when it started",
            Self::BadInput => {
                "decode, diff, --from, --baseline: some of the input could not be read; the rest was"
            }
            Self::NotComparable => "diff: the two runs did not observe the same",
            Self::Regression => "diff: a condition of --fail-if holds, or cannot be told",
            Self::Mismatch => {
                "submit: a descriptor did something else than it must, or the driver counted other faults"
            }
            Self::TimedOut => "submit: a completion record never came, or the work queue stayed full",
            Self::Partial => "submit: a partial completion was left so",
        }
    }

    /// The table shown by `--help`.
    pub(crate) fn table() -> String {
        let rows = Self::ALL.iter().map(|code| format!("  {:>2}  {}", *code as u8, code.meaning()));
        rows.collect::<Vec<_>>().join("\n")
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// What went wrong, what to do about it, and the code to leave with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub code: Code,
    pub what: String,
    pub next: String,
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, what: what.into(), next: next.into() }
    }
}

/// Two lines, one fact each: `dsascope: <what>` and `  next: <step>`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dsascope: {}\n    next: {}", self.what, self.next)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::new(
                Code::Failure,
                format!("{error:#}"),
                "run `dsascope doctor` to see what this host offers",
            ),
        }
    }
}

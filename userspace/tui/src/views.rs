//! The views there are, each with its digit, its name and the question it answers. What a view draws is in `view/`.

/// How a view uses the room between header and footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Processes, recent faults or batches, and latency beside or below each other.
    Overview,
    /// Processes, and the latency of the selected one.
    Processes,
    /// One table of faults or batches, and beside it what is selected where there is room.
    Table,
    /// Latency alone.
    Latency,
    /// Lines that scroll.
    Lines,
}

impl Shape {
    /// Whether it has rows that can be chosen.
    pub const fn has_tables(self) -> bool {
        matches!(self, Self::Overview | Self::Processes | Self::Table)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Overview,
    Processes,
    Batches,
    Faults,
    Latency,
    EventLog,
    Addresses,
    Devices,
    Findings,
    Probes,
}

impl View {
    /// In the order of their digits, from 1 to 9 and then 0.
    pub const ALL: [Self; 10] = [
        Self::Overview,
        Self::Processes,
        Self::Batches,
        Self::Faults,
        Self::Latency,
        Self::EventLog,
        Self::Addresses,
        Self::Devices,
        Self::Findings,
        Self::Probes,
    ];

    /// The key that opens it.
    pub fn digit(self) -> char {
        let place = Self::ALL.iter().position(|view| *view == self).unwrap_or(0);
        char::from_digit((place as u32 + 1) % 10, 10).unwrap_or('1')
    }

    pub fn of_digit(digit: char) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.digit() == digit)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Processes => "Processes",
            Self::Batches => "Batches",
            Self::Faults => "Faults",
            Self::Latency => "Latency",
            Self::EventLog => "Event log",
            Self::Addresses => "Addresses",
            Self::Devices => "Devices",
            Self::Findings => "Findings",
            Self::Probes => "Probes",
        }
    }

    /// For a narrow terminal.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Overview => "all",
            Self::Processes => "proc",
            Self::Batches => "batch",
            Self::Faults => "fault",
            Self::Latency => "lat",
            Self::EventLog => "log",
            Self::Addresses => "addr",
            Self::Devices => "dev",
            Self::Findings => "find",
            Self::Probes => "probe",
        }
    }

    /// What it is for, as the help has it.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Overview => {
                "Is something wrong, and who is it? The header has rates, loss and how many findings there are; below it the processes with their \
                 faults, what happened last, and how long it takes. Enter goes from a process to its faults, and from a fault to all that is known of it."
            }
            Self::Processes => {
                "Who faults, how often and how slowly? A row for each open work queue of a process; s sorts by the next column. Below the table is \
                 the latency of the selected row. Enter shows its faults."
            }
            Self::Batches => {
                "Which batch failed, and why? Faults of one batch lie apart in the event log; here each use of a batch identifier is one row, with \
                 its elements by their place. Enter shows the elements and the batch's own record."
            }
            Self::Faults => {
                "What happened to each record? The last faults, newest first, until one is selected; Enter decodes it: entry, completion record, \
                 waterfall, where it was submitted."
            }
            Self::Latency => {
                "How slow is it, where, and since when? The histogram of the chosen stage (t chooses), the figures of every stage, and a map of \
                 time and latency: each column is a span of time, each row a step of latency, and the darker a cell the more faults. \
                 With --baseline, beside those of a capture."
            }
            Self::EventLog => {
                "Is the event log large enough? How full runs of the interrupt thread found it, how soon it would be full if nobody read it, and \
                 the size that this advises."
            }
            Self::Addresses => {
                "Which pages fault? The pages of the completion records among the last faults, most faults first, each with when it faulted and \
                 what memory it is, where that was looked up (--submitter)."
            }
            Self::Devices => {
                "How is the hardware set up? Devices with their work queues as they were when tracing began, what they did since, and what the \
                 driver did to them."
            }
            Self::Findings => "What is wrong? Each finding in a sentence, with what was seen and what to do.",
            Self::Probes => {
                "Can the figures be trusted, and what do they cost? Each hook with how it is attached, hits and cost, and the books: what was seen, \
                 sent, lost and received."
            }
        }
    }

    pub const fn shape(self) -> Shape {
        match self {
            Self::Overview => Shape::Overview,
            Self::Processes => Shape::Processes,
            Self::Batches | Self::Faults => Shape::Table,
            Self::Latency => Shape::Latency,
            Self::EventLog | Self::Addresses | Self::Devices | Self::Findings | Self::Probes => Shape::Lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_digit_opens_one_view() {
        for view in View::ALL {
            assert_eq!(View::of_digit(view.digit()), Some(view));
        }
        assert_eq!((View::Overview.digit(), View::Probes.digit()), ('1', '0'));
        assert_eq!(View::of_digit('x'), None);
    }
}

//! What can be asked of the view's state. Refuses: changing it.

use super::*;

impl App {
    pub fn theme(&self) -> &Theme {
        &self.theme
    }

    pub fn mode(&self) -> Mode {
        match (self.editing, &self.overlay) {
            (true, _) => Mode::Filter,
            (false, Some(_)) => Mode::Overlay,
            (false, None) if self.view.shape() == Shape::Lines => Mode::Lines,
            (false, None) => Mode::Normal,
        }
    }

    pub fn askable(&self) -> Askable {
        Askable { replay: self.replay.is_some(), recorder: self.recorder }
    }

    /// The capture that is played.
    pub fn replay(&self) -> Option<&Replay> {
        self.replay.as_deref()
    }

    /// What a line should tell, until the next key.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    pub fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_deref()
    }

    pub fn keys(&self) -> &Remap {
        &self.keys
    }

    pub fn view(&self) -> View {
        self.view
    }

    /// First line shown of a view of lines.
    pub fn scroll(&self) -> usize {
        self.scroll
    }

    pub fn focus(&self) -> Focus {
        self.focus
    }

    pub fn overlay(&self) -> Option<&Overlay> {
        self.overlay.as_ref()
    }

    pub fn filter(&self) -> &Search {
        &self.filter
    }

    pub fn sort(&self) -> Sort {
        self.sort
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// The model that is counting, also while the screen is held.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model that the panels show.
    pub fn shown(&self) -> &Model {
        self.frozen.as_deref().map_or(&self.model, |(model, _)| model)
    }

    /// Time and latency of all faults that the panels show.
    pub fn map(&self) -> &Map {
        self.frozen.as_deref().map_or(&self.report, |(_, report)| report).map()
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Rows of processes, filtered and in order; the table shows the row of all processes above them.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Faults, filtered, newest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Batches, filtered, open ones first, then newest first; `None` while recent faults are shown.
    pub fn batches(&self) -> Option<&[Batch]> {
        self.batches.as_ref().map(|table| table.rows.as_slice())
    }

    pub fn first_batch(&self) -> usize {
        self.batches.as_ref().map_or(0, |table| table.first)
    }

    /// Position of the cursor among the batches.
    pub fn batch_row(&self) -> usize {
        self.batches.as_ref().map_or(0, Table::row)
    }

    /// Whether the cursor was moved to a batch.
    pub fn batch_chosen(&self) -> bool {
        self.batches.as_ref().is_some_and(Table::is_chosen)
    }

    pub fn selected(&self) -> Option<Key> {
        self.selected
    }

    pub fn only(&self) -> Option<Key> {
        self.only
    }

    /// Position of the cursor in the process table: 0 is the row of all processes, also when the selected one is filtered away.
    pub fn process_row(&self) -> usize {
        let row = self.selected.and_then(|key| self.rows.iter().position(|row| row.key == key));
        row.map_or(0, |row| row + 1)
    }

    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// Position of the cursor in the fault table; `None` without faults.
    pub fn fault_row(&self) -> Option<usize> {
        self.pick.row(&self.entries)
    }

    pub fn first_fault(&self) -> usize {
        self.pick.first()
    }

    /// Whether the fault table follows the newest.
    pub fn follows(&self) -> bool {
        !self.pick.is_chosen()
    }
}

//! The live view's state and its one updater. Keys, sizes, ticks and events come in one ordered stream of [`Input`]s; drawing reads
//! what lies here and changes nothing.
//!
//! Refuses: clocks, terminals, files. Time comes with [`Event::Tick`].

mod jump;
pub mod marks;
mod mouse;
mod read;

use std::collections::HashSet;

use crossterm::event::{KeyEvent, MouseEvent};
use dsascope_core::event::{Event, Fault, Key};
use dsascope_core::model::{Batch, Header, Model};
use dsascope_core::report::{Map, Report};
use dsascope_core::stages::Stage;

use crate::baseline::Baseline;
use crate::batches::Table;
use crate::faults::{self, Entry, Pick};
use crate::keymap::{self, Askable, Command, Mode};
use crate::layout::{self, Panels, Screen};
use crate::remap::Remap;
use crate::replay::{Ask, Replay};
use crate::rows::{self, Row, Sort};
use crate::search::Search;
use crate::theme::Theme;
use crate::view;
use crate::views::{Shape, View};

pub use marks::Marks;
pub(crate) use mouse::scrolled;

const SECOND_NS: u64 = 1_000_000_000;

#[derive(Clone, Debug)]
pub enum Input {
    Key(KeyEvent),
    Mouse(MouseEvent),
    Resize {
        width: u16,
        height: u16,
    },
    /// Where the capture that is played stands.
    Replay(Box<Replay>),
    /// The capture is played again from its beginning: what was counted is forgotten.
    Restart,
    /// Decode the newest fault.
    ShowNewest,
    /// Something happened that a line should tell.
    Notice(String),
    /// A flight recorder runs beside the view.
    Recorder,
}

/// What the runner has to do after an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Actions {
    pub redraw: bool,
    pub quit: bool,
    pub ask: Option<Ask>,
}

impl Actions {
    const REDRAW: Self = Self { redraw: true, quit: false, ask: None };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    Processes,
    /// The lower table, also while it shows batches.
    Faults,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Overlay {
    Help { scroll: usize },
    Detail { fault: Box<Fault>, scroll: usize },
    Batch { batch: Box<Batch>, scroll: usize },
}

#[derive(Debug)]
pub struct App {
    theme: Theme,
    width: u16,
    height: u16,
    keys: Remap,
    view: View,
    /// First line shown of a view of lines.
    scroll: usize,
    focus: Focus,
    overlay: Option<Overlay>,
    filter: Search,
    editing: bool,
    sort: Sort,
    stage: Stage,
    /// Row under the cursor; `None` is the row of all processes.
    selected: Option<Key>,
    first_row: usize,
    pick: Pick,
    marks: Marks,
    /// Faults of this open file alone.
    only: Option<Key>,
    model: Model,
    /// Time and latency of all faults.
    report: Report,
    /// Both as they were when the screen was held.
    frozen: Option<Box<(Model, Report)>>,
    /// Derived for display from the shown model.
    header: Header,
    rows: Vec<Row>,
    entries: Vec<Entry>,
    /// Shown in place of recent faults.
    batches: Option<Table>,
    /// Events came since the derived data was made.
    stale: bool,
    shown_second: u64,
    replay: Option<Box<Replay>>,
    recorder: bool,
    notice: Option<String>,
    baseline: Option<Box<Baseline>>,
}

impl App {
    pub fn new(theme: Theme, width: u16, height: u16, filter: &str) -> Self {
        let model = Model::default();
        Self {
            theme,
            width,
            height,
            keys: Remap::default(),
            view: View::default(),
            scroll: 0,
            focus: Focus::Processes,
            overlay: None,
            filter: Search::new(filter),
            editing: false,
            sort: Sort::default(),
            stage: Stage::Service,
            selected: None,
            first_row: 0,
            pick: Pick::default(),
            marks: Marks::default(),
            only: None,
            header: model.header(),
            model,
            report: Report::default(),
            frozen: None,
            rows: Vec::new(),
            entries: Vec::new(),
            batches: None,
            stale: false,
            shown_second: 0,
            replay: None,
            recorder: false,
            notice: None,
            baseline: None,
        }
    }

    /// Begins with another view and stage, and keys of the user's own.
    #[must_use]
    pub fn configured(mut self, view: View, stage: Option<Stage>, keys: Remap) -> Self {
        (self.stage, self.keys) = (stage.unwrap_or(self.stage), keys);
        self.go_to(view);
        self
    }

    /// Holds latencies against those of another run.
    #[must_use]
    pub fn against(mut self, baseline: Option<Baseline>) -> Self {
        self.baseline = baseline.map(Box::new);
        self
    }

    /// The command of a key; while text is typed, every key is what it says.
    fn command_of(&self, key: KeyEvent) -> Option<Command> {
        let mode = self.mode();
        let known = if mode == Mode::Filter { Some(key) } else { self.keys.known(key) };
        keymap::command(known?, mode, self.askable())
    }

    pub fn update(&mut self, input: Input) -> Actions {
        match input {
            Input::Key(key) => match self.command_of(key) {
                Some(Command::Quit) => Actions { quit: true, ..Actions::default() },
                Some(Command::Ask(ask)) => Actions { ask: Some(ask), ..Actions::default() },
                Some(command) => {
                    self.notice = None;
                    self.command(command);
                    self.derive();
                    Actions::REDRAW
                }
                None => Actions::default(),
            },
            Input::Mouse(event) => {
                let changed = self.mouse(event);
                if changed {
                    self.notice = None;
                    self.derive();
                }
                Actions { redraw: changed, ..Actions::default() }
            }
            Input::Resize { width, height } => {
                (self.width, self.height) = (width, height);
                self.derive();
                Actions::REDRAW
            }
            Input::Replay(replay) => {
                if self.replay.as_ref() == Some(&replay) {
                    return Actions::default();
                }
                // A capture that stands still, or is at its end, has no tick that would show what came last.
                if replay.paused || replay.seeking || replay.at_ns >= replay.end_ns {
                    self.derive();
                }
                self.replay = Some(replay);
                Actions::REDRAW
            }
            Input::Restart => {
                self.model = Model::default();
                self.report = Report::default();
                self.frozen = None;
                self.derive();
                Actions::REDRAW
            }
            Input::ShowNewest => {
                let newest = self.model.recent_faults().next_back().copied();
                self.overlay = newest.map(|fault| Overlay::Detail { fault: Box::new(fault), scroll: 0 });
                self.derive();
                Actions::REDRAW
            }
            Input::Notice(text) => {
                self.notice = Some(text);
                Actions::REDRAW
            }
            Input::Recorder => {
                self.recorder = true;
                Actions::REDRAW
            }
        }
    }

    /// Events change the model at once and the screen with the next tick, so that a storm costs no more than its counting.
    pub fn event(&mut self, event: &Event) -> Actions {
        self.model.update(event);
        self.report.event(event);
        let Event::Tick { now_ns } = event else {
            self.stale = true;
            let redraw = matches!(event, Event::Session(_)) && self.derive();
            return Actions { redraw, ..Actions::default() };
        };
        let second = now_ns / SECOND_NS;
        if !self.stale && second == self.shown_second {
            return Actions::default();
        }
        self.shown_second = second;
        if self.frozen.is_some() {
            // The header goes on: rates, loss and time are of now.
            self.model.refresh();
            self.header = self.model.header();
            return Actions::REDRAW;
        }
        self.derive();
        Actions::REDRAW
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Quit | Command::Ask(_) => {}
            Command::Help => {
                self.overlay = match self.overlay {
                    Some(Overlay::Help { .. }) => None,
                    _ => Some(Overlay::Help { scroll: 0 }),
                };
            }
            // The key of the view one is in goes back to the first.
            Command::View(view) if view == self.view && self.overlay.is_none() => self.go_to(View::Overview),
            Command::View(view) => self.go_to(view),
            Command::Freeze => {
                self.model.refresh();
                self.frozen = match self.frozen {
                    Some(_) => None,
                    None => Some(Box::new((self.model.clone(), self.report.clone()))),
                };
            }
            Command::FocusNext | Command::FocusPrevious if self.view == View::Overview => {
                self.focus = match self.focus {
                    Focus::Processes => Focus::Faults,
                    Focus::Faults => Focus::Processes,
                };
            }
            // One table has the whole view.
            Command::FocusNext | Command::FocusPrevious => {}
            Command::Up => self.go(-1),
            Command::Down => self.go(1),
            Command::PageUp => self.go(-(self.page() as isize)),
            Command::PageDown => self.go(self.page() as isize),
            Command::First => self.go(isize::MIN),
            Command::Last => self.go(isize::MAX),
            Command::Open => self.open(),
            Command::Back => self.back(),
            Command::SortNext => self.sort = Sort::by(self.sort.column.step(1)),
            Command::SortPrevious => self.sort = Sort::by(self.sort.column.step(-1)),
            Command::SortReverse => self.sort.descending = !self.sort.descending,
            Command::StageNext => self.stage = rows::step_stage(self.stage, 1),
            Command::StagePrevious => self.stage = rows::step_stage(self.stage, -1),
            Command::NextFailed => self.next_failed(),
            Command::Worst => self.open_worst(),
            Command::Mark => self.turn_mark(),
            Command::NextMarked => self.next_marked(),
            Command::Batches if self.view != View::Overview => self.go_to(match self.view {
                View::Batches => View::Faults,
                _ => View::Batches,
            }),
            Command::Batches => {
                self.batches = if self.batches.is_some() { None } else { Some(Table::default()) };
            }
            Command::FilterEdit => self.editing = true,
            Command::FilterType(c) => self.filter.push(c),
            Command::FilterErase => self.filter.erase(),
            Command::FilterComplete => self.filter.complete(),
            // What is wrong stays to be put right.
            Command::FilterAccept => self.editing = self.filter.error().is_some(),
            Command::FilterClear => {
                self.filter.clear();
                self.editing = false;
            }
        }
    }

    /// Opens a view; what is selected stays so.
    fn go_to(&mut self, view: View) {
        (self.view, self.scroll, self.overlay) = (view, 0, None);
        match view {
            View::Batches => {
                self.batches.get_or_insert_default();
                self.focus = Focus::Faults;
            }
            View::Faults => {
                self.batches = None;
                self.focus = Focus::Faults;
            }
            View::Overview | View::Processes => {
                self.batches = None;
                self.focus = Focus::Processes;
            }
            _ => {}
        }
    }

    /// Goes to the detail of the selected fault, or from a process to its faults.
    fn open(&mut self) {
        if !self.view.shape().has_tables() {
            return;
        }
        match self.focus {
            Focus::Processes => {
                self.only = self.selected;
                self.pick = Pick::default();
                if self.view == View::Overview {
                    self.focus = Focus::Faults;
                } else {
                    self.go_to(View::Faults);
                }
            }
            Focus::Faults => {
                if let Some(table) = &self.batches {
                    let batch = table.rows.get(table.row()).cloned();
                    self.overlay = batch.map(|batch| Overlay::Batch { batch: Box::new(batch), scroll: 0 });
                    return;
                }
                let fault = self.fault_row().and_then(|row| self.entries.get(row)).map(|entry| entry.fault);
                self.overlay = fault.map(|fault| Overlay::Detail { fault: Box::new(fault), scroll: 0 });
            }
        }
    }

    /// One step back: overlay, selection of a fault, one process's faults, filter, view.
    fn back(&mut self) {
        if self.overlay.take().is_some() {
            return;
        }
        if let (Focus::Faults, Some(table)) = (self.focus, &mut self.batches)
            && table.is_chosen()
        {
            table.choose(0);
        } else if self.focus == Focus::Faults && self.batches.is_none() && self.pick.is_chosen() {
            self.pick = Pick::default();
        } else if self.only.take().is_some() {
            if self.view == View::Overview {
                self.focus = Focus::Processes;
            }
        } else if !self.filter.text().is_empty() {
            self.filter.clear();
        } else {
            self.go_to(View::Overview);
        }
    }

    fn go(&mut self, steps: isize) {
        let height = self.page();
        match &mut self.overlay {
            Some(Overlay::Help { scroll }) => {
                let lines = view::help_height(self.view, &self.keys, self.model.verdicts(), self.width);
                *scroll = moved(*scroll, steps, lines, height);
            }
            Some(Overlay::Batch { scroll, batch }) => {
                let lines = view::batch_height(&self.theme, batch, self.width, height);
                *scroll = moved(*scroll, steps, lines, height);
            }
            Some(Overlay::Detail { scroll, fault }) => {
                let model = self.frozen.as_deref().map_or(&self.model, |(model, _)| model);
                let lines = view::detail_height(&self.theme, fault, model.submissions(), self.width);
                *scroll = moved(*scroll, steps, lines, height);
            }
            None if self.view.shape() == Shape::Lines => {
                let lines = view::lines_height(self, self.width);
                self.scroll = moved(self.scroll, steps, lines, height);
            }
            None => match self.focus {
                Focus::Faults if self.batches.is_some() => {
                    if let Some(table) = &mut self.batches {
                        table.choose(step(table.row(), steps, table.rows.len()));
                    }
                }
                Focus::Processes => {
                    self.choose_process(step(self.process_row(), steps, self.rows.len() + 1));
                }
                Focus::Faults if !self.entries.is_empty() => {
                    let row = step(self.fault_row().unwrap_or(0), steps, self.entries.len());
                    self.pick.choose(&self.entries, row);
                }
                Focus::Faults => {}
            },
        }
    }

    /// Row 0 is that of all processes.
    fn choose_process(&mut self, row: usize) {
        self.selected = row.checked_sub(1).and_then(|row| self.rows.get(row)).map(|row| row.key);
    }

    /// Puts the cursor of the table one is in on a row and leaves it there, also on the first; of the processes row 0 is that of all.
    fn hold(&mut self, row: usize) {
        match (self.focus, &mut self.batches) {
            (Focus::Processes, _) => self.choose_process(row),
            (Focus::Faults, Some(table)) => table.hold(row),
            (Focus::Faults, None) => self.pick.hold(&self.entries, row),
        }
    }

    /// Rows that a page key moves by, or that an overlay shows.
    fn page(&self) -> usize {
        let Some(panels) = self.panels() else { return 1 };
        let has_lines = self.overlay.is_some() || self.view.shape() == Shape::Lines;
        let rows = match self.focus {
            _ if has_lines => usize::from(panels.body.height.saturating_sub(1)),
            Focus::Processes => layout::table_rows(panels.processes),
            Focus::Faults => layout::table_rows(panels.faults),
        };
        rows.max(1)
    }

    /// Brings what is drawn up to date with the model and the choices made. Returns true: it is to be drawn.
    fn derive(&mut self) -> bool {
        self.stale = false;
        self.model.refresh();
        self.header = self.model.header();
        // The others show no row; a thousand of them are not collected and sorted for nothing.
        if !self.view.shape().has_tables() {
            return true;
        }
        let model = self.frozen.as_deref().map_or(&self.model, |(model, _)| model);
        let fitting = self.filter.fitting(model);
        self.rows = rows::collect(model, self.stage).filter(|row| fitting.takes_row(row)).collect();
        self.sort.apply(&mut self.rows);
        let shown: HashSet<Key> = self.rows.iter().map(|row| row.key).collect();
        self.entries = faults::collect(model, self.only, &shown, &fitting, &self.marks);
        if let Some(table) = &mut self.batches {
            table.collect(model, self.only, &shown, self.marks.batches());
            self.marks.renew(&table.rows);
        }
        if let Some(panels) = self.panels() {
            let height = layout::table_rows(panels.processes);
            self.first_row = layout::scroll(self.first_row, self.process_row(), height, self.rows.len() + 1);
            let height = layout::table_rows(panels.faults);
            self.pick.scroll(&self.entries, height);
            if let Some(table) = &mut self.batches {
                table.scroll(height);
            }
        }
        true
    }

    /// Where things lie in this view; `None`: the terminal is too small.
    fn panels(&self) -> Option<Panels> {
        match layout::screen(self.width, self.height, self.view.shape()) {
            Screen::Panels(panels) => Some(panels),
            Screen::TooSmall => None,
        }
    }
}

/// `row` moved by `steps` and kept below `count`.
fn step(row: usize, steps: isize, count: usize) -> usize {
    row.saturating_add_signed(steps).min(count.saturating_sub(1))
}

/// A first line moved by `steps` so that a page of `height` of `lines` stays full.
fn moved(first: usize, steps: isize, lines: usize, height: usize) -> usize {
    first.saturating_add_signed(steps).min(lines.saturating_sub(height))
}

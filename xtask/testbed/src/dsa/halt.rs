//! Halt, reset, and faults on demand (idxd-facts sections 1.2 and 2.3).
//!
//! Owns: what a device error does to the device, which reset brings it back, and what a test injects. Refuses: delivering anything
//! for descriptors that were under way.
//! Not modelled: the error that led to a halt in SWERROR; a warm or cold reset other than the machine's own, which is both.

use std::sync::PoisonError;
use std::time::Duration;

use dsascope_common::hw::completion::status;
use dsascope_common::hw::regs::{cmdstatus, genctrl, genstats, intcause};
use serde::{Deserialize, Serialize};

use super::ops::Outcome;
use super::state::{Job, State};
use super::{DsaDevice, pci};
use crate::truth::{DropReason, Event};

/// A reset waits that long for descriptors under way, which never wait for anything themselves once it has begun.
const RESET_PATIENCE: Duration = Duration::from_secs(5);

/// What it takes to leave a halt, as GENSTATS has it. A later one does what an earlier one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetType {
    /// The command.
    Software,
    /// Function-level reset.
    Flr,
    /// The machine's reset; so is the next.
    Warm,
    Cold,
}

impl ResetType {
    const ALL: [Self; 4] = [Self::Software, Self::Flr, Self::Warm, Self::Cold];
}

/// A fault on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Injection {
    /// A device error: halt until `reset`.
    Halt { reset: ResetType },
    /// That many descriptors from now on, elements of batches among them, end with a hardware error (0x20) and do nothing.
    HardwareErrors { descriptors: u32 },
    /// Each descriptor and each element takes that much longer from now on; 0 ends it.
    Delay { delay_us: u64 },
    /// Errors but those of completion records go to SWERROR from now on, as in a device without an event log.
    ErrorsInRegister,
    /// That many entries for completion records come late: the device takes their descriptors for ended, and drained, that long before.
    LateEntries { entries: u32, delay_ms: u32 },
}

impl State {
    /// The reset that a halted device waits for.
    pub(super) fn halted(&self) -> Option<ResetType> {
        let genstats = self.registers.genstats;
        let reset = ResetType::ALL[(genstats >> genstats::RESET_TYPE_SHIFT & 3) as usize];
        (genstats & genstats::STATE_MASK == genstats::HALT).then_some(reset)
    }

    fn halt(&mut self, reset: ResetType) {
        self.registers.genstats = genstats::HALT | (reset as u32) << genstats::RESET_TYPE_SHIFT;
    }
}

/// What goes wrong in a device, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Batches that can be under way, 1 to 256.
    pub batch_identifiers: u16,
    /// Each when the device has accepted so many descriptors more.
    pub injections: Vec<(u64, Injection)>,
}

impl DsaDevice {
    /// Make something go wrong.
    pub fn inject(&self, injection: Injection) {
        self.inject_into(&mut self.state(), injection);
    }

    /// Take back what was injected, but for a halt, and follow another plan.
    pub fn follow(&self, plan: &Plan) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.hardware_errors = 0;
        state.delay = Duration::ZERO;
        state.errors_in_register = false;
        state.late_entries = (0, Duration::ZERO);
        state.identifiers.limit(plan.batch_identifiers);
        let from = state.next_sequence;
        state.planned = plan.injections.iter().map(|(after, i)| (from.saturating_add(*after), *i)).collect();
        self.inject_planned(state);
    }

    pub(super) fn inject_planned(&self, state: &mut State) {
        let accepted = state.next_sequence;
        let due: Vec<_> = state.planned.extract_if(.., |(after, _)| *after <= accepted).collect();
        due.into_iter().for_each(|(_, injection)| self.inject_into(state, injection));
    }

    fn inject_into(&self, state: &mut State, injection: Injection) {
        self.log(Event::Injected { device: self.name(), injection });
        match injection {
            Injection::Halt { reset } => self.halt(state, reset),
            Injection::HardwareErrors { descriptors } => state.hardware_errors = descriptors,
            Injection::Delay { delay_us } => {
                state.delay = Duration::from_micros(delay_us);
                self.progress.notify_all();
            }
            Injection::ErrorsInRegister => state.errors_in_register = true,
            Injection::LateEntries { entries, delay_ms } => {
                state.late_entries = (entries, Duration::from_millis(delay_ms.into()));
            }
        }
    }

    /// Nothing that was accepted is finished; a second halt changes nothing.
    fn halt(&self, state: &mut State, reset: ResetType) {
        if state.halted().is_some() {
            return;
        }
        self.abort_all(state, DropReason::Halted);
        state.generation += 1;
        state.portal.clear();
        state.halt(reset);
        self.log(Event::Halt { device: self.name(), reset });
        if let Some(pending) = state.command.take() {
            self.end_command(state, &pending, cmdstatus::HARDWARE);
        }
        if state.registers.genctrl & genctrl::HALT_INTERRUPT != 0 {
            self.cause(state, intcause::HALT);
        }
        self.progress.notify_all();
    }

    /// The machine is reset.
    pub fn reset(&self) {
        self.reset_by(ResetType::Cold);
    }

    /// Registers, configuration space, queues. Waits for descriptors under way. A halt that asks for more than `by` stays.
    pub(super) fn reset_by(&self, by: ResetType) {
        let mut state = self.state();
        self.abort_all(&mut state, DropReason::Aborted);
        state.generation += 1;
        state.command = None;
        state.portal.clear();
        self.progress.notify_all();
        let busy = |state: &mut State| state.engines.iter().any(|e| e.current.is_some());
        state = self
            .progress
            .wait_timeout_while(state, RESET_PATIENCE, busy)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let still = state.halted().filter(|needed| *needed > by);
        state.reset_registers();
        if let Some(needed) = still {
            state.halt(needed);
        }
        state.config = pci::config_space(self.kind);
        self.log(Event::Reset { device: self.name() });
    }

    /// Wait as long as an injected delay says, then end the descriptor if an error was injected.
    pub(super) fn injected(&self, job: &Job) -> Option<Outcome> {
        let mut state = self.state();
        if !state.delay.is_zero() {
            let delay = state.delay;
            let goes_on = |state: &mut State| !state.obsolete(job) && !state.gives_up(job);
            let waited = self.progress.wait_timeout_while(state, delay, goes_on);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let left = state.hardware_errors.checked_sub(1)?;
        state.hardware_errors = left;
        Some(Outcome::new(status::HW_ERR1))
    }
}

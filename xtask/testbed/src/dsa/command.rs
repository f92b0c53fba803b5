//! Administrative commands: checks with their error codes, and the waiting of those that drain.
//!
//! Owns: CMD and CMDSTATUS (idxd-facts section 1.6). A command that must wait stays [`Pending`] with CMDSTATUS active until the
//! engines are done with what it waits for; whoever finishes the last descriptor ends it. No thread ever blocks on a command.
//! Not modelled: interrupt handles (13, 14; CMDCAP says so). A command written while one is active is ignored.

use dsascope_common::hw::PASID_MASK;
use dsascope_common::hw::regs::{cmdstatus, command, evlstatus, genstats, intcause, wqcfg};

use super::halt::ResetType;
use super::model::{MAX_BATCH_LOG2, MAX_TRANSFER_LOG2, TOTAL_ENTRIES, WQS};
use super::state::{Current, State, WQCFG_DWORDS};
use super::{DsaDevice, pci};
use crate::truth::{DropReason, Event};

/// Which descriptors a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    /// Bits.
    Wqs(u32),
    Pasid(u32),
}

impl Scope {
    fn has(self, job: &Current) -> bool {
        match self {
            Self::All => true,
            Self::Wqs(wqs) => wqs >> job.wq & 1 != 0,
            Self::Pasid(pasid) => job.pasid == Some(pasid),
        }
    }
}

/// A command that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    code: u32,
    operand: u32,
    interrupt: bool,
    scope: Scope,
    /// Descriptors accepted later are none of its business.
    horizon: u64,
}

impl Pending {
    /// While it waits, this descriptor does not wait for an event-log slot: the driver may be past reading the log.
    pub(super) fn abandons(&self, job: Current) -> bool {
        use command::{ABORT_ALL, ABORT_PASID, ABORT_WQ, DISABLE_DEVICE, RESET_DEVICE, RESET_WQ};
        let ends =
            [DISABLE_DEVICE, RESET_DEVICE, RESET_WQ, ABORT_ALL, ABORT_WQ, ABORT_PASID].contains(&self.code);
        ends && self.scope.has(&job) && job.sequence < self.horizon
    }
}

impl DsaDevice {
    /// Software wrote CMD.
    pub(super) fn command(&self, state: &mut State, value: u32) {
        if state.command.is_some() {
            log::warn!("{}: command {value:#x} while another is active", self.name);
            return;
        }
        let code = value >> command::CODE_SHIFT & 0x1f;
        let operand = value & command::OPERAND_MASK;
        let pending = Pending {
            code,
            operand,
            interrupt: value & command::INTERRUPT != 0,
            scope: Scope::All,
            horizon: state.next_sequence,
        };
        match check(state, code, operand) {
            Err(status) => self.end_command(state, &pending, status),
            Ok(scope) => {
                self.begin(state, code, scope);
                state.registers.cmdstatus = cmdstatus::ACTIVE;
                state.command = Some(Pending { scope, ..pending });
                self.progress.notify_all();
                self.settle(state);
            }
        }
    }

    /// End the pending command if nothing is left to wait for.
    pub(super) fn settle(&self, state: &mut State) {
        let Some(pending) = state.command else { return };
        let waits = |job: Current| pending.scope.has(&job) && job.sequence < pending.horizon;
        if state.outstanding().any(waits) {
            return;
        }
        state.command = None;
        self.finish(state, &pending);
        self.end_command(state, &pending, cmdstatus::OK);
    }

    pub(super) fn end_command(&self, state: &mut State, pending: &Pending, status: u32) {
        state.registers.cmdstatus = status;
        let (code, operand) = (pending.code, pending.operand);
        self.log(Event::Command { device: self.name(), code, operand, status });
        if pending.interrupt {
            self.cause(state, intcause::COMMAND);
        }
    }

    /// What happens before the waiting.
    fn begin(&self, state: &mut State, code: u32, scope: Scope) {
        use command::{ABORT_ALL, ABORT_PASID, ABORT_WQ, DISABLE_DEVICE, DISABLE_WQ, RESET_DEVICE, RESET_WQ};
        if code == DISABLE_DEVICE {
            state.registers.set_state(genstats::DRAIN);
        }
        if matches!(code, DISABLE_WQ | RESET_WQ)
            && let Scope::Wqs(wqs) = scope
        {
            for (_, wq) in state.wqs.iter_mut().enumerate().filter(|(i, _)| wqs >> i & 1 != 0) {
                wq.state = wqcfg::STATE_BUSY;
            }
        }
        if matches!(code, RESET_DEVICE | RESET_WQ | ABORT_ALL | ABORT_WQ | ABORT_PASID) {
            self.abort(state, scope, DropReason::Aborted);
        }
        if code == RESET_DEVICE {
            state.generation += 1;
            state.portal.clear();
        }
    }

    /// Throw queued descriptors away.
    fn abort(&self, state: &mut State, scope: Scope, reason: DropReason) {
        for wq in &mut state.wqs {
            wq.queue.retain(|job| {
                let hit = scope.has(&job.current());
                if hit {
                    self.dropped(job.wq, job.pasid, reason);
                }
                !hit
            });
        }
    }

    /// Throw all queued descriptors away, because of a halt or a reset from outside.
    pub(super) fn abort_all(&self, state: &mut State, reason: DropReason) {
        self.abort(state, Scope::All, reason);
    }

    /// What happens after the waiting.
    fn finish(&self, state: &mut State, pending: &Pending) {
        match (pending.code, pending.scope) {
            (command::ENABLE_DEVICE, _) => state.registers.set_state(genstats::ENABLED),
            (command::DISABLE_DEVICE, _) => {
                state.registers.set_state(genstats::DISABLED);
                for wq in &mut state.wqs {
                    wq.state = wqcfg::STATE_DISABLED;
                }
            }
            (command::RESET_DEVICE, _) => {
                state.reset_registers();
                self.log(Event::Reset { device: self.name() });
            }
            (command::ENABLE_WQ, Scope::Wqs(wqs)) => {
                each(state, wqs, |wq| wq.state = wqcfg::STATE_ENABLED);
            }
            (command::DISABLE_WQ, Scope::Wqs(wqs)) => {
                each(state, wqs, |wq| wq.state = wqcfg::STATE_DISABLED);
            }
            (command::RESET_WQ, Scope::Wqs(wqs)) => each(state, wqs, |wq| {
                wq.state = wqcfg::STATE_DISABLED;
                wq.config = [0; WQCFG_DWORDS];
            }),
            _ => {}
        }
    }
}

fn each(state: &mut State, wqs: u32, then: impl Fn(&mut super::state::Wq)) {
    let chosen = state.wqs.iter_mut().enumerate().filter(|(i, _)| wqs >> i & 1 != 0);
    chosen.for_each(|(_, wq)| then(wq));
}

/// The command's scope, or the CMDSTATUS error that refuses it.
fn check(state: &State, code: u32, operand: u32) -> Result<Scope, u32> {
    let enabled = state.registers.enabled();
    match state.halted() {
        None => {}
        Some(ResetType::Software) if code == command::RESET_DEVICE => {}
        Some(_) => return Err(cmdstatus::HARDWARE),
    }
    match code {
        command::ENABLE_DEVICE => enable_device(state).map(|()| Scope::All),
        command::DISABLE_DEVICE if !enabled => Err(cmdstatus::DEVICE_NOT_ENABLED_DISABLE),
        command::DISABLE_DEVICE | command::DRAIN_ALL | command::ABORT_ALL | command::RESET_DEVICE => {
            Ok(Scope::All)
        }
        command::ENABLE_WQ => enable_wq(state, operand).map(Scope::Wqs),
        command::DISABLE_WQ | command::DRAIN_WQ | command::ABORT_WQ | command::RESET_WQ => {
            let (bank, bits) = (operand >> 16, operand & 0xffff);
            if bank != 0 || bits == 0 || bits >> WQS != 0 {
                return Err(cmdstatus::INVALID_WQ);
            }
            let all_on = (0..WQS).all(|i| bits >> i & 1 == 0 || state.wqs[i].enabled());
            if enabled && all_on { Ok(Scope::Wqs(bits)) } else { Err(cmdstatus::WQ_NOT_ENABLED) }
        }
        command::DRAIN_PASID | command::ABORT_PASID => Ok(Scope::Pasid(operand & PASID_MASK)),
        _ => Err(cmdstatus::INVALID_COMMAND),
    }
}

fn enable_device(state: &State) -> Result<(), u32> {
    let r = &state.registers;
    if r.state() != genstats::DISABLED {
        return Err(cmdstatus::DEVICE_ENABLED);
    }
    if r.log_enabled() {
        let size = r.log_size();
        if size < evlstatus::MIN_SIZE || r.head >= size || r.tail >= size {
            return Err(cmdstatus::DEVICE_CONFIG);
        }
        if r.log_pasid().is_some() && !pci::pasid_enabled(&state.config) {
            return Err(cmdstatus::DEVICE_PASID);
        }
    }
    if !state.config.bus_master() {
        return Err(cmdstatus::BUS_MASTER);
    }
    if state.wqs.iter().map(super::state::Wq::size).sum::<u32>() > TOTAL_ENTRIES {
        return Err(cmdstatus::WQ_SIZES);
    }
    // A WQ belongs to one group, as does an engine; a group with WQs has engines; a WQ with entries has a group.
    let groups = &r.groups;
    let twice = |of: fn(&super::state::Group) -> u64| {
        groups.iter().try_fold(0, |seen, g| (seen & of(g) == 0).then_some(seen | of(g))).is_none()
    };
    let idle_group = groups.iter().any(|g| g.wqs[0] != 0 && g.engines == 0);
    let orphan = (0..WQS).any(|i| state.wqs[i].size() != 0 && state.engines_of(i) == 0);
    if twice(|g| g.wqs[0]) || twice(|g| g.engines) || idle_group || orphan {
        return Err(cmdstatus::GROUP_CONFIG);
    }
    Ok(())
}

fn enable_wq(state: &State, index: u32) -> Result<u32, u32> {
    if !state.registers.enabled() {
        return Err(cmdstatus::DEVICE_NOT_ENABLED);
    }
    let wq = state.wqs.get(index as usize).ok_or(cmdstatus::INVALID_WQ)?;
    if wq.state != wqcfg::STATE_DISABLED {
        return Err(cmdstatus::WQ_ENABLED);
    }
    let taken: u32 = state.wqs.iter().map(super::state::Wq::size).sum();
    if wq.size() == 0 || taken > TOTAL_ENTRIES {
        return Err(cmdstatus::WQ_SIZE);
    }
    if state.engines_of(index as usize) == 0 {
        return Err(cmdstatus::GROUP_CONFIG);
    }
    if wq.priority() == 0 {
        return Err(cmdstatus::WQ_PRIORITY);
    }
    // A shared WQ accepts up to its threshold, which its size must cover.
    if !wq.dedicated() && !(1..=wq.size()).contains(&wq.threshold()) {
        return Err(cmdstatus::WQ_MODE);
    }
    let mode = wq.mode();
    if mode & wqcfg::MODE_BLOCK_ON_FAULT != 0 && mode & wqcfg::MODE_PRS_DISABLE != 0 {
        return Err(cmdstatus::WQ_BLOCK_ON_FAULT);
    }
    if wq.pasid_enabled() && !pci::pasid_enabled(&state.config) || !wq.dedicated() && !wq.pasid_enabled() {
        return Err(cmdstatus::WQ_PASID_ENABLE);
    }
    let limits = wq.config[wqcfg::LIMITS];
    if limits >> wqcfg::LIMITS_BATCH_SHIFT & 0xf > MAX_BATCH_LOG2 {
        return Err(cmdstatus::WQ_MAX_BATCH);
    }
    // The device's own maximum of 2^31 bytes is the most that the field can ask for: 0x28 cannot happen.
    const _: () = assert!(MAX_TRANSFER_LOG2 == 0x1f);
    Ok(1 << index)
}

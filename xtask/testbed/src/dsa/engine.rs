//! Engines: each takes a descriptor from the WQs of its group and executes it.
//!
//! Owns: arbitration between WQs, and the waiting of an engine: while it waits it serves nobody, which the truth log tells.
//! Not modelled: read buffers, groups' traffic classes, the MSI-X permission table, which is stored only.

use dsascope_common::hw::completion::{STATUS_MASK, STATUS_WRITE_FAULT, status};
use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};

use super::DsaDevice;
use super::host::Dma;
use super::ops::{Context, Outcome};
use super::paging::Paging;
use super::state::{Job, State};
use crate::truth::{BlockCause, Event};

/// Stride of a WQ of priority 1.
const STRIDE: u64 = 1 << 20;

impl DsaDevice {
    /// Take and execute one descriptor as engine `engine`. False: there was none.
    pub fn step(&self, engine: usize) -> bool {
        let job = take(&mut self.state(), engine);
        let Some(job) = job else { return false };
        self.execute(engine, &job);
        let mut state = self.state();
        state.engines[engine].current = None;
        self.settle(&mut state);
        self.progress.notify_all();
        if let Some(late) = state.engines[engine].late.take() {
            drop(state);
            self.append_late(engine, &late);
        }
        true
    }

    /// Serve until the device is stopped.
    pub(super) fn run_engine(&self, engine: usize) {
        while !self.state().stopping {
            if self.step(engine) {
                continue;
            }
            let mut state = self.state();
            // Something may have come since step() looked.
            if next_wq(&state, engine).is_none() && !state.stopping {
                state.engines[engine].idle = true;
                state = self.wait(&self.wake[engine], state);
                state.engines[engine].idle = false;
            }
        }
    }

    /// Let an idle engine of the WQ's group know.
    pub(super) fn wake_engine(&self, state: &mut State, wq: usize) {
        let serving = state.engines_of(wq);
        let idle = |(i, engine): &(usize, &mut super::state::Engine)| serving >> i & 1 != 0 && engine.idle;
        if let Some((i, engine)) = state.engines.iter_mut().enumerate().find(idle) {
            engine.idle = false;
            self.wake[i].notify_one();
        }
    }

    fn execute(&self, engine: usize, job: &Job) {
        let descriptor = &job.descriptor;
        let context = self.context(job, &*self.host.dma, false);
        let outcome = match (context.check(descriptor), descriptor.opcode()) {
            (Err(refused), _) => refused,
            (Ok(()), opcode::BATCH) => return self.batch(engine, job),
            (Ok(()), opcode::DRAIN) => return self.drain(engine, job),
            (Ok(()), _) => self.operate(engine, job, descriptor, false),
        };
        self.complete(engine, job, descriptor, &outcome, None);
    }

    /// Check and execute one descriptor that is no batch and no drain.
    pub(super) fn operate(
        &self,
        engine: usize,
        job: &Job,
        descriptor: &Descriptor,
        in_batch: bool,
    ) -> Outcome {
        let blocks = descriptor.flags() & flags::BLOCK_ON_FAULT != 0;
        let memory = Paging::new(self, engine, job, blocks);
        let context = self.context(job, &memory, in_batch);
        let run = || self.injected(job).unwrap_or_else(|| context.run(descriptor));
        let outcome = context.check(descriptor).err().unwrap_or_else(run);
        if memory.refused() && outcome.status & STATUS_MASK == status::PAGE_FAULT_NOBOF {
            return Outcome {
                status: outcome.status & STATUS_WRITE_FAULT | status::PAGE_FAULT_IR,
                ..outcome
            };
        }
        outcome
    }

    fn context<'a>(&self, job: &'a Job, dma: &'a dyn Dma, in_batch: bool) -> Context<'a> {
        Context { kind: self.kind, dma, pasid: job.pasid, config: &job.config, in_batch }
    }

    /// Wait as engine `engine` until `ready` gives something. `ready` tells what it waits for, or none when that is a matter of
    /// moments. `None`: a reset came, or a command that ends waits like this one.
    pub(super) fn wait_for<T>(
        &self,
        engine: usize,
        job: &Job,
        mut ready: impl FnMut(&mut State) -> Result<T, Option<BlockCause>>,
    ) -> Option<T> {
        let started = self.host.truth.now_ns();
        let mut blocked = None;
        let mut state = self.state();
        let result = loop {
            if state.obsolete(job) {
                break None;
            }
            match ready(&mut state) {
                Ok(value) => break Some(value),
                Err(Some(_)) if state.gives_up(job) => break None,
                Err(cause) => blocked = blocked.or(cause),
            }
            state = self.wait(&self.progress, state);
        };
        drop(state);
        if let Some(cause) = blocked {
            let blocked_ns = self.host.truth.now_ns() - started;
            self.log(Event::EngineBlocked { device: self.name(), engine: engine as u8, cause, blocked_ns });
        }
        result
    }
}

/// Of the engine's WQs that have work the one that got least for its priority.
fn next_wq(state: &State, engine: usize) -> Option<usize> {
    let ready = |i: &usize| !state.wqs[*i].queue.is_empty() && state.engines_of(*i) >> engine & 1 != 0;
    (0..state.wqs.len()).filter(ready).min_by_key(|i| state.wqs[*i].used)
}

fn take(state: &mut State, engine: usize) -> Option<Job> {
    let index = next_wq(state, engine)?;
    let wq = &mut state.wqs[index];
    let job = wq.queue.pop_front()?;
    wq.used += STRIDE / u64::from(wq.priority().max(1));
    state.service_clock = wq.used;
    state.engines[engine].current = Some(job.current());
    Some(job)
}

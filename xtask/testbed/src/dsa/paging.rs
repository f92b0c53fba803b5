//! Page requests of a device: an engine asks for a page that is not there, waits for the answer, and tries again.
//!
//! Owns: who may ask (idxd-facts sections 1.4, 1.10 and 6.2), the groups by which answers find their request, and [`Paging`], the
//! memory as a descriptor sees it, so that operations know nothing of requests. Refuses: executing anything else on an engine
//! that waits: it is occupied, which is what switching page requests off for a WQ is for.
//! Not modelled: more than one request of an engine at a time, a time limit, the limit on outstanding requests in configuration
//! space (an engine has one).

use std::sync::atomic::{AtomicBool, Ordering};

use dsascope_common::hw::regs::wqcfg;

use super::host::{Dma, DmaFault};
use super::model::ENGINES;
use super::state::{Job, WQCFG_DWORDS};
use super::{DsaDevice, pci};
use crate::truth::{BlockCause, Event};
use crate::vtd::{GROUP_MASK, PageRequest, PageResponse, Posted, Requester, ResponseCode};

/// A group number names its engine and how often, modulo this, that engine had asked before: a late answer hits nobody.
const GROUPS_OF_ENGINE: u16 = (GROUP_MASK + 1) / ENGINES as u16;

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    group: u16,
    answer: Option<ResponseCode>,
}

enum Answer {
    Retry,
    Refused,
    /// The device may not ask, or something ended the wait.
    None,
}

impl DsaDevice {
    /// An answer of the guest's. One that nobody waits for is ignored.
    pub fn page_response(&self, pasid: Option<u32>, group: u16, code: ResponseCode) {
        let mut guard = self.state();
        let state = &mut *guard;
        if code == ResponseCode::Failure {
            pci::page_requests_failed(&mut state.config);
        }
        let asked = |e: &&mut super::state::Engine| e.asked.is_some_and(|a| a.group == group);
        let Some(engine) = state.engines.iter_mut().find(asked) else {
            log::debug!("{}: an answer for page-request group {group}, which is not waiting", self.name);
            return;
        };
        engine.asked = Some(Asked { group, answer: Some(code) });
        self.log(Event::PageResponse { device: self.name(), pasid, group, code });
        self.progress.notify_all();
    }

    fn request_page(&self, engine: usize, job: &Job, pasid: u32, address: u64, write: bool) -> Answer {
        let mut state = self.state();
        if state.obsolete(job) || !pci::page_requests_enabled(&state.config) {
            return Answer::None;
        }
        let slot = &mut state.engines[engine];
        slot.requests = (slot.requests + 1) % GROUPS_OF_ENGINE;
        let group = slot.requests * ENGINES as u16 + engine as u16;
        slot.asked = Some(Asked { group, answer: None });
        drop(state);
        let address = address & !0xfff;
        self.log(Event::PageRequest {
            device: self.name(),
            engine: engine as u8,
            wq: job.wq,
            pasid,
            address,
            write,
            group,
        });
        let answer = match self.host.pages.request(PageRequest { pasid, address, write, group }) {
            Posted::Refused => {
                let code = ResponseCode::Invalid;
                self.log(Event::PageResponse { device: self.name(), pasid: Some(pasid), group, code });
                Some(code)
            }
            Posted::Queued | Posted::Overflow => self.wait_for(engine, job, |state| {
                let answer = state.engines[engine].asked.and_then(|asked| asked.answer);
                answer.ok_or(Some(BlockCause::PageRequest))
            }),
        };
        self.state().engines[engine].asked = None;
        match answer {
            Some(ResponseCode::Success) => Answer::Retry,
            Some(_) => Answer::Refused,
            None => Answer::None,
        }
    }
}

impl Requester for DsaDevice {
    fn page_response(&self, response: PageResponse) {
        Self::page_response(self, response.pasid, response.group, response.code);
    }
}

/// Descriptors of this WQ may ask for pages.
fn page_requests_on(config: &[u32; WQCFG_DWORDS]) -> bool {
    config[wqcfg::MODE] & (wqcfg::MODE_PRS_DISABLE | wqcfg::MODE_ATS_DISABLE) == 0
}

/// Memory for one descriptor.
pub(super) struct Paging<'a> {
    device: &'a DsaDevice,
    engine: usize,
    job: &'a Job,
    asks: bool,
    refused: AtomicBool,
}

impl<'a> Paging<'a> {
    /// `blocks`: this access may wait for its page. That is a descriptor's choice for its operands and for a batch's list
    /// (block on fault); a completion record's page is always asked for.
    pub(super) fn new(device: &'a DsaDevice, engine: usize, job: &'a Job, blocks: bool) -> Self {
        let asks = blocks && page_requests_on(&job.config);
        Self { device, engine, job, asks, refused: AtomicBool::new(false) }
    }

    /// The guest said that there is no such page.
    pub(super) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn retry(
        &self,
        pasid: Option<u32>,
        write: bool,
        mut access: impl FnMut(&dyn Dma) -> Result<(), DmaFault>,
    ) -> Result<(), DmaFault> {
        loop {
            let Err(fault) = access(&*self.device.host.dma) else { return Ok(()) };
            let Some(pasid) = pasid.filter(|_| self.asks && fault.reason.can_be_served()) else {
                return Err(fault);
            };
            match self.device.request_page(self.engine, self.job, pasid, fault.address, write) {
                Answer::Retry => {}
                Answer::Refused => {
                    self.refused.store(true, Ordering::Relaxed);
                    return Err(fault);
                }
                Answer::None => return Err(fault),
            }
        }
    }
}

impl Dma for Paging<'_> {
    fn read(&self, pasid: Option<u32>, address: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.retry(pasid, false, |dma| dma.read(pasid, address, into))
    }

    fn write(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.retry(pasid, true, |dma| dma.write(pasid, address, from))
    }

    fn write_record(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.retry(pasid, true, |dma| dma.write_record(pasid, address, from))
    }
}

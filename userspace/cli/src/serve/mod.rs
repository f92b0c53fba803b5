//! `serve`: the figures of the stream for Prometheus, as long as it runs.
//!
//! The stream is followed as everywhere, and each second a page is made of the model; requests take the page there is, so that no
//! scraper holds up the reading of events or causes work by asking often. Owns: who may ask from where. What is in a page is the export
//! crate's.

mod access;
mod http;
mod own;
mod page;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dsascope_core::event::Event;
use dsascope_core::model::Model;
use dsascope_export::prometheus::Gatherer;
use tokio::sync::watch;

use crate::exit::{Code, Failure};
use crate::flags;
use crate::lines::Consumer;
use access::Access;
use page::Page;

/// Time between two pages.
const EVERY: Duration = Duration::from_secs(1);

/// What answers, not yet running.
#[derive(Debug)]
pub(crate) struct Service {
    listener: TcpListener,
    access: Access,
    top: usize,
}

impl Service {
    pub(crate) fn open(flags: &flags::Serve) -> Result<Self> {
        let access = Access::new(flags)?;
        let address = flags.listen;
        let listener = TcpListener::bind(address).map_err(|error| {
            let next = "choose another --listen, or end who has this one (ss -ltnp)";
            Failure::new(Code::Failure, format!("listen on {address}: {error}"), next)
        })?;
        listener.set_nonblocking(true).context("set up the socket")?;
        Ok(Self { listener, access, top: usize::from(flags.top) })
    }
}

/// Makes the pages.
#[derive(Debug)]
pub(crate) struct Serving {
    gatherer: Gatherer,
    pages: watch::Sender<Arc<Page>>,
    next: Instant,
}

impl Serving {
    /// Begins to answer; to be called within a runtime.
    pub(crate) fn start(service: Service) -> Result<Self> {
        let Service { listener, access, top } = service;
        let address = listener.local_addr().context("ask for the socket's address")?;
        let listener = tokio::net::TcpListener::from_std(listener).context("watch the socket")?;
        let (pages, page) = watch::channel(Arc::default());
        say(address, &access);
        tokio::spawn(http::serve(listener, access, page));
        Ok(Self { gatherer: Gatherer::new(top), pages, next: Instant::now() })
    }

    fn publish(&mut self, model: &Model) {
        self.next = Instant::now() + EVERY;
        let page = Page::new(self.gatherer.gather(model, &own::now()), model);
        self.pages.send_replace(Arc::new(page));
    }
}

fn say(address: SocketAddr, access: &Access) {
    let scheme = if access.tls.is_some() { "https" } else { "http" };
    eprintln!("dsascope: {scheme}://{address}/metrics");
}

impl Consumer for Serving {
    fn event(&mut self, model: &Model, event: &Event) -> Result<()> {
        let due = match event {
            Event::Session(_) => true,
            Event::Tick { .. } => Instant::now() >= self.next,
            _ => false,
        };
        if due {
            self.publish(model);
        }
        Ok(())
    }

    fn stays(&mut self, model: &mut Model) -> Result<bool> {
        self.publish(model);
        Ok(true)
    }

    fn end(&mut self, _model: &mut Model, _until_ns: u64) -> Result<()> {
        Ok(())
    }

    fn is_on_terminal(&self) -> bool {
        // A bar would move for as long as it runs.
        true
    }
}

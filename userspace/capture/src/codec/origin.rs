//! Where a fault's record came from, and what programs saw of records: since version 2.

use std::num::NonZeroU64;

use dsascope_core::event::{Comm, Context, DeviceId, DeviceKind, Element, How, Origin, Seen};

use super::shape::Shape;
use super::{Column, State};
use crate::columns::Coder;

/// The thread that submitted, and where in its program: the same for many records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct By {
    tid: u32,
    comm: [u64; 2],
    how: u8,
    /// 0: none.
    instruction: u64,
    /// 0: none; else one more.
    stack: u64,
}

const BLANK: Origin = Origin {
    submitted_ns: 0,
    seen_ns: None,
    tid: 0,
    comm: Comm([0; 16]),
    how: How::Movdir64b,
    operation: 0,
    bytes: None,
    instruction: None,
    stack: None,
    element: None,
};

pub(super) const BLANK_SEEN: Seen = Seen {
    at_ns: 0,
    tgid: 0,
    tid: 0,
    record: 0,
    status: 0,
    submitted_ns: None,
    context: None,
    delivered_ns: None,
};

impl State {
    pub(super) fn origin<C: Coder>(&mut self, c: &mut C, shape: Shape, origin: Option<Origin>) -> Origin {
        let mut o = origin.unwrap_or(BLANK);
        c.near(Column::Submitted as usize, self.at_ns, &mut o.submitted_ns);
        o.seen_ns = self.time(c, Column::OriginSeen, shape.has(Shape::ORIGIN_SEEN), o.seen_ns);
        let (halves, _) = o.comm.0.as_chunks::<8>();
        let mut by = By {
            tid: o.tid,
            comm: [0, 1].map(|half: usize| halves.get(half).map_or(0, |bytes| u64::from_le_bytes(*bytes))),
            how: o.how.code(),
            instruction: o.instruction.map_or(0, NonZeroU64::get),
            stack: o.stack.map_or(0, |stack| u64::from(stack) + 1),
        };
        self.submitters.code(c, Column::By, &mut by, |c, by| {
            c.narrow(Column::ByTid as usize, &mut by.tid);
            c.value(Column::ByComm0 as usize, &mut by.comm[0]);
            c.value(Column::ByComm1 as usize, &mut by.comm[1]);
            c.narrow(Column::ByHow as usize, &mut by.how);
            c.value(Column::ByInstruction as usize, &mut by.instruction);
            c.value(Column::ByStack as usize, &mut by.stack);
        });
        o.tid = by.tid;
        for (to, from) in o.comm.0.as_chunks_mut::<8>().0.iter_mut().zip(by.comm) {
            *to = from.to_le_bytes();
        }
        let stack = u32::try_from(by.stack.saturating_sub(1));
        match (How::from_wire(by.how), stack) {
            (Some(how), Ok(stack)) => (o.how, o.stack) = (how, (by.stack > 0).then_some(stack)),
            _ => c.refuse(),
        }
        o.instruction = NonZeroU64::new(by.instruction);
        c.narrow(Column::OriginOperation as usize, &mut o.operation);
        o.bytes = shape.has(Shape::ORIGIN_BYTES).then(|| {
            let mut bytes = o.bytes.unwrap_or(0);
            c.narrow(Column::OriginBytes as usize, &mut bytes);
            bytes
        });
        o.element = shape.has(Shape::ORIGIN_ELEMENT).then(|| {
            let mut element = o.element.unwrap_or(Element { list: 0, index: 0 });
            c.value(Column::List as usize, &mut element.list);
            c.narrow(Column::ListIndex as usize, &mut element.index);
            element
        });
        o
    }

    pub(super) fn seen<C: Coder>(&mut self, c: &mut C, seen: &mut Seen) {
        self.at(c, self.at_ns, &mut seen.at_ns);
        let mut shape = u64::from(seen.submitted_ns.is_some())
            | u64::from(seen.context.is_some()) << 1
            | u64::from(seen.delivered_ns.is_some()) << 2;
        self.shapes.code(c, Column::Shape, &mut shape, |c, word| c.value(Column::ShapeWords as usize, word));
        c.narrow(Column::SeenTgid as usize, &mut seen.tgid);
        c.narrow(Column::SeenTid as usize, &mut seen.tid);
        c.near(Column::SeenRecord as usize, self.seen_record, &mut seen.record);
        self.seen_record = seen.record;
        c.narrow(Column::SeenStatus as usize, &mut seen.status);
        seen.submitted_ns = self.time(c, Column::SeenSubmitted, shape & 1 != 0, seen.submitted_ns);
        seen.context = (shape & 2 != 0).then(|| {
            let unknown = DeviceId::new(DeviceKind::Unknown, 0);
            let mut context =
                seen.context.unwrap_or(Context { device: unknown, wq: 0, pasid: 0, opened_ns: None });
            self.file(c, &mut context, &mut Some(seen.tgid));
            context
        });
        seen.delivered_ns = self.time(c, Column::SeenDelivered, shape & 4 != 0, seen.delivered_ns);
    }

    /// A time that may be missing, as its distance from the event's own.
    fn time<C: Coder>(
        &self,
        c: &mut C,
        column: Column,
        is_there: bool,
        time: Option<NonZeroU64>,
    ) -> Option<NonZeroU64> {
        if !is_there {
            return None;
        }
        let mut ns = time.map_or(0, NonZeroU64::get);
        c.near(column as usize, self.at_ns, &mut ns);
        NonZeroU64::new(ns)
    }
}

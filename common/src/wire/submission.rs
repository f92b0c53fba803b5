//! What the uprobes tell: submissions, elements of batches, completions that programs have seen, and exact counts of them.

use super::RecordHeader;

/// [`Submitter::how`] and [`SubmittedKey::how`].
pub mod how {
    pub const MOVDIR64B: u8 = 0;
    pub const ENQCMD: u8 = 1;
    pub const ENQCMDS: u8 = 2;
    /// Eight plain stores: only the testbed's device takes them.
    pub const STORES: u8 = 3;
    /// write(2): the driver submits.
    pub const WRITE: u8 = 4;
}

/// [`Submitter::wq`] when the portal alone tells the WQ.
pub const WQ_BY_PORTAL: u16 = u16::MAX;
/// [`SubmittedKey::opcode`] of a descriptor that could not be read.
pub const OPCODE_UNREAD: u8 = u8::MAX;
/// [`SubmittedKey::place`] of what the driver submitted: this bit, device in bits 16 to 31, WQ in bits 0 to 15. Else the portal's page.
pub const PLACE_IS_WQ: u64 = 1 << 63;
/// Elements in one [`ElementsRecord`].
pub const ELEMENTS: usize = 8;

wire! {
    /// How, where and by whom a descriptor was submitted.
    pub struct Submitter: 64 {
        /// When the submitting instruction was reached, for the first time where it was tried again.
        pub submitted_ns: u64,
        /// User address of that instruction; 0: write(2).
        pub instruction: u64,
        /// Address in the portal's page that it was sent to; 0: write(2).
        pub portal: u64,
        pub tgid: u32,
        pub tid: u32,
        /// Of the thread.
        pub comm: [u8; 16],
        /// Id in the map of user stacks; negative: there is none.
        pub stack: i32,
        /// `idxd_device.id` and `idxd_wq.id` where the driver submitted, else [`WQ_BY_PORTAL`].
        pub device: u16,
        pub wq: u16,
        /// One of [`how`].
        pub how: u8,
        /// 1: the descriptor could not be read and is zero.
        pub unread: u8,
        pub reserved: u16,
        /// One submission in so many is told of.
        pub every: u32,
    }

    /// A descriptor at the moment of its submission.
    pub struct SubmissionRecord: 144 {
        pub header: RecordHeader,
        pub submitter: Submitter,
        pub descriptor: [u8; 64],
    }

    /// Some of the descriptors of a batch's list; follows the batch's own record.
    pub struct ElementsRecord: 608 {
        pub header: RecordHeader,
        pub submitter: Submitter,
        /// Address of the list.
        pub list: u64,
        /// Index in the list of the first of these.
        pub first: u32,
        /// How many these are, at most [`ELEMENTS`].
        pub count: u32,
        pub descriptors: [[u8; 64]; ELEMENTS],
    }

    /// A program has seen the status byte of a completion record.
    pub struct SeenRecord: 40 {
        pub header: RecordHeader,
        /// User address of the record.
        pub record: u64,
        pub tgid: u32,
        pub tid: u32,
        pub status: u8,
        pub reserved: [u8; 7],
    }

    pub struct SubmittedKey: 16 {
        /// The portal's page, or see [`PLACE_IS_WQ`].
        pub place: u64,
        pub tgid: u32,
        pub opcode: u8,
        pub how: u8,
        pub reserved: u16,
    }

    /// Exact counts of one process, place, operation and way to submit, whatever is sampled or lost.
    pub struct Submitted: 72 {
        pub comm: [u8; 16],
        /// Times the instruction was reached.
        pub submissions: u64,
        /// Of these, refused by a full shared WQ, as far as the zero flag was seen.
        pub refused: u64,
        /// Descriptors in lists, for batches.
        pub elements: u64,
        /// Sum of transfer sizes, for what is no batch.
        pub bytes: u64,
        /// Told of in no record: another try of the last one, or not sampled.
        pub untold: u64,
        /// Records that the ring did not take.
        pub records_lost: u64,
        /// Lists that could not be read, or not to their end.
        pub lists_cut: u64,
    }
}

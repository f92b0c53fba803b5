//! MOVDIR64B, ENQCMD and ENQCMDS in machine code.
//!
//! All their encodings have the opcode 0F 38 F8, a memory operand, and 66, F2 or F3 before it, so bytes without that cannot
//! submit, and a search for them leaves next to nothing of a program to decode. (APX has further encodings, with registers that
//! uprobes do not know; they are not found.) What is left may still be data, or lie inside another instruction. It is a site only if
//! all of this holds:
//!
//! - The file names a function there: a symbol or an entry of .eh_frame with its size; else the code from a start that the file
//!   names (a symbol without size, the entry point, a section) to the next.
//! - All of that function decodes, from its first byte to exactly its last. Code that has data in it usually fails here.
//! - Each branch within the function, and each other start that the file names in it, is at an instruction of that decoding. One that
//!   is out of step with what the processor sees usually fails here.
//! - One of the three instructions starts in that decoding where its bytes are.
//! - Control flow leads there: from the function's start, from a jump or call elsewhere in the file, or, if the function
//!   has a jump through a register or a table, from that. A copy of the instruction that is kept as data in a function (as a just-in-time
//!   compiler does) fails here.
//!
//! If the first three hold, other candidates are nothing but bytes of other instructions, and dismissed; if not, they are listed
//! with what does not.

use dsascope_common::wire::site::{SiteCookie, SiteForm, SiteInstruction, register};
use iced_x86::{
    Code as Opcode, Decoder, DecoderError, DecoderOptions, FlowControl, Formatter as _, GasFormatter,
    Instruction, OpKind, Register,
};
use memchr::memmem;

use super::elf::{Code, Function};
use super::{Reason, Scan, ScanErrorKind, Site, Unprobeable, What, symbol_at};

/// Largest function that is decoded.
pub(super) const EXTENT_LIMIT: u64 = 1 << 20;
/// All functions that are decoded, in bytes: what a hostile file can cost.
const BUDGET: u64 = 8 << 20;
/// A program has a handful; each may cost a string.
pub(super) const CANDIDATE_LIMIT: usize = 1 << 14;
/// Enclosing functions looked at, outwards from the nearest start.
pub(super) const NESTING: usize = 64;

const OPCODE: [u8; 3] = [0x0f, 0x38, 0xf8];
const LONGEST_INSTRUCTION: usize = 15;

/// Bytes that may be a submitting instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Index of its code.
    piece: usize,
    /// Of its opcode in the code.
    at: usize,
}

/// In order of address.
pub(super) fn candidates(code: &[Code<'_>]) -> Result<Vec<Candidate>, ScanErrorKind> {
    let finder = memmem::Finder::new(&OPCODE);
    let mut found = Vec::new();
    for (piece, code) in code.iter().enumerate() {
        for at in finder.find_iter(code.bytes) {
            let memory_operand = code.bytes.get(at + OPCODE.len()).is_some_and(|mod_rm| *mod_rm < 0xc0);
            if memory_operand
                && code.bytes[prefixes(code.bytes, at)..at].iter().any(|b| matches!(b, 0x66 | 0xf2 | 0xf3))
            {
                if found.len() == CANDIDATE_LIMIT {
                    return Err(ScanErrorKind::TooMany);
                }
                found.push(Candidate { piece, at });
            }
        }
    }
    Ok(found)
}

/// Where the bytes before `at` that may be prefixes begin.
fn prefixes(bytes: &[u8], at: usize) -> usize {
    let most = at.min(LONGEST_INSTRUCTION - OPCODE.len() - 1);
    at - bytes[..at].iter().rev().take(most).take_while(|b| is_prefix(**b)).count()
}

/// Legacy prefixes, and REX; what is INC or DEC to a 32-bit program only makes more candidates.
fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// A function to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    piece: usize,
    start: u64,
    end: u64,
}

fn extent(candidate: Candidate, code: &[Code<'_>], functions: &[Function<'_>]) -> Result<Extent, Reason> {
    let piece = &code[candidate.piece];
    let address = piece.address + candidate.at as u64;
    let next = functions.partition_point(|f| f.start <= address);
    let before = &functions[..next];
    let nearest = before.last().filter(|f| f.start >= piece.address).ok_or(Reason::NoFunction)?;
    let around = before.iter().rev().take(NESTING).find(|f| f.holds(address));
    let (start, end) = match (around, nearest.size) {
        (Some(f), _) => (f.start, f.size.and_then(|size| f.start.checked_add(size))),
        (None, None) => {
            let next = functions.get(next).map_or(u64::MAX, |f| f.start);
            (nearest.start, Some(next.min(piece.end())))
        }
        (None, Some(_)) => return Err(Reason::NoFunction),
    };
    let end =
        end.filter(|end| start >= piece.address && *end <= piece.end()).ok_or(Reason::OutsideSection)?;
    if end - start > EXTENT_LIMIT {
        return Err(Reason::TooLarge);
    }
    Ok(Extent { piece: candidate.piece, start, end })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// To the next instruction, or also to the target.
    Through,
    /// To the target alone.
    Jump,
    /// Through a register or a table.
    Switch,
    /// Nowhere in the function.
    Stop,
}

/// One instruction of a function; places are relative to its start.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: u32,
    /// [`OUTSIDE`] if there is none in the function.
    target: u32,
    flow: Flow,
}

const OUTSIDE: u32 = u32::MAX;

struct Decoded {
    extent: Extent,
    steps: Vec<Step>,
    /// Of each step: control flow leads there.
    reached: Vec<bool>,
    /// Of each step: a jump or call leads there, or the file names it.
    target: Vec<bool>,
    /// Some reached instruction jumps through a register or a table.
    switch: bool,
}

impl Decoded {
    /// All of the function, in step with all that is known of it.
    fn of(extent: Extent, bitness: u32, code: &Code<'_>, functions: &[Function<'_>]) -> Result<Self, Reason> {
        let bytes = bytes(code, extent);
        let mut decoder = Decoder::with_ip(bitness, bytes, extent.start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut steps = Vec::new();
        while decoder.can_decode() {
            let at = u32::try_from(decoder.position()).map_err(|_| Reason::TooLarge)?;
            decoder.decode_out(&mut instruction);
            match decoder.last_error() {
                DecoderError::None => {}
                DecoderError::NoMoreBytes => return Err(Reason::OverEnd),
                _ => return Err(Reason::Undecodable { at: extent.start + u64::from(at) }),
            }
            steps.push(step(at, &instruction, extent));
        }
        let (reached, target) = (vec![false; steps.len()], vec![false; steps.len()]);
        let mut decoded = Self { extent, steps, reached, target, switch: false };
        for start in inside(extent, functions).chain([0]) {
            decoded.enter(start).ok_or(Reason::OutOfStep { at: extent.start + u64::from(start) })?;
        }
        for index in 0..decoded.steps.len() {
            let to = decoded.steps[index].target;
            if to != OUTSIDE {
                let to =
                    decoded.index_of(to).ok_or(Reason::OutOfStep { at: extent.start + u64::from(to) })?;
                decoded.target[to] = true;
            }
        }
        Ok(decoded)
    }

    fn index_of(&self, at: u32) -> Option<usize> {
        self.steps.binary_search_by_key(&at, |s| s.at).ok()
    }

    /// Follows control flow from the instructions at these indices.
    fn reach(&mut self, mut from: Vec<usize>) {
        while let Some(index) = from.pop() {
            let Some(step) = self.steps.get(index) else { continue };
            if std::mem::replace(&mut self.reached[index], true) {
                continue;
            }
            self.switch |= step.flow == Flow::Switch;
            if step.target != OUTSIDE {
                from.extend(self.index_of(step.target));
            }
            if step.flow == Flow::Through {
                from.push(index + 1);
            }
        }
    }

    /// Something outside leads to the instruction at `at`, if there is one.
    fn enter(&mut self, at: u32) -> Option<()> {
        let index = self.index_of(at)?;
        self.target[index] = true;
        self.reach(vec![index]);
        Some(())
    }

    fn is_target(&self, at: u32) -> bool {
        self.index_of(at).is_none_or(|index| self.target[index])
    }

    fn is_reached(&self, index: usize) -> bool {
        self.switch || self.reached[index]
    }
}

fn bytes<'a>(code: &Code<'a>, extent: Extent) -> &'a [u8] {
    let range = |address: u64| usize::try_from(address - code.address).unwrap_or(usize::MAX);
    code.bytes.get(range(extent.start)..range(extent.end)).unwrap_or_default()
}

/// Other starts that the file names in the function, relative to its own.
fn inside(extent: Extent, functions: &[Function<'_>]) -> impl Iterator<Item = u32> {
    let first = functions.partition_point(|f| f.start <= extent.start);
    let starts = functions[first..].iter().map(|f| f.start).take_while(move |start| *start < extent.end);
    starts.filter_map(move |start| u32::try_from(start - extent.start).ok())
}

fn step(at: u32, instruction: &Instruction, extent: Extent) -> Step {
    let branch =
        matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    let target =
        Some(instruction.near_branch_target()).filter(|to| branch && (extent.start..extent.end).contains(to));
    let target = target.and_then(|to| u32::try_from(to - extent.start).ok()).unwrap_or(OUTSIDE);
    let flow = match instruction.flow_control() {
        FlowControl::UnconditionalBranch => Flow::Jump,
        // Through a slot of the global offset table it leaves the function.
        FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => Flow::Stop,
        FlowControl::IndirectBranch => Flow::Switch,
        FlowControl::Return | FlowControl::Exception => Flow::Stop,
        FlowControl::Interrupt if instruction.code() == Opcode::Int3 => Flow::Stop,
        _ => Flow::Through,
    };
    Step { at, target, flow }
}

/// Judges each of the candidates.
pub(super) fn search(
    bitness: u32,
    code: &[Code<'_>],
    functions: &[Function<'_>],
    candidates: &[Candidate],
    scan: &mut Scan,
) {
    let mut decoded: Vec<(Extent, Result<Decoded, Reason>)> = Vec::new();
    let mut budget = BUDGET;
    // Of each candidate: its function in `decoded`.
    let functions_of: Vec<Result<usize, Reason>> = candidates
        .iter()
        .map(|candidate| {
            let extent = extent(*candidate, code, functions)?;
            // By address, but for functions inside of others.
            if let Some(known) = decoded.iter().rposition(|(e, _)| *e == extent) {
                return Ok(known);
            }
            if decoded.iter().any(|(e, _)| e.start < extent.end && extent.start < e.end) {
                return Err(Reason::Overlapping);
            }
            budget = budget.checked_sub(extent.end - extent.start).ok_or(Reason::Budget)?;
            decoded.push((extent, Decoded::of(extent, bitness, &code[extent.piece], functions)));
            Ok(decoded.len() - 1)
        })
        .collect();
    let mut decoded: Vec<_> = decoded.into_iter().map(|(_, decoded)| decoded).collect();
    let found: Vec<Result<Option<Found>, Reason>> = (candidates.iter().zip(functions_of.iter().copied()))
        .map(|(candidate, function)| {
            let whole = decoded[function?].as_ref().map_err(|reason| *reason)?;
            Ok(Found::at(*candidate, function?, whole, bitness, &code[candidate.piece]))
        })
        .collect();
    let wanted = wanted(&decoded, found.iter().flatten().flatten());
    for (address, function) in led_to(bitness, code, &wanted, &decoded) {
        if let Ok(function) = &mut decoded[function] {
            u32::try_from(address - function.extent.start).ok().and_then(|at| function.enter(at));
        }
    }
    for (candidate, found) in candidates.iter().zip(found) {
        let piece = &code[candidate.piece];
        let unprobeable = |address, text, reason| Unprobeable {
            address,
            symbol: symbol_at(functions, piece, address),
            text,
            reason,
        };
        match found {
            Ok(None) => scan.dismissed += 1,
            Ok(Some(found)) => {
                let address = found.instruction.ip();
                let text = text(&found.instruction);
                let judged = decoded[found.function]
                    .as_ref()
                    .map_err(|reason| *reason)
                    .and_then(|f| found.site(f, piece));
                match judged {
                    Ok((cookie, result_offset)) => scan.sites.push(Site {
                        what: found.what,
                        file_offset: piece.offset + (address - piece.address),
                        address,
                        symbol: symbol_at(functions, piece, address),
                        text,
                        cookie: Some(cookie),
                        result_offset,
                    }),
                    Err(reason) => scan.unprobeable.push(unprobeable(address, text, reason)),
                }
            }
            Err(reason) => {
                let start = prefixes(piece.bytes, candidate.at);
                let text: Vec<String> = piece.bytes[start..candidate.at + OPCODE.len() + 1]
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect();
                scan.unprobeable.push(unprobeable(piece.address + start as u64, text.join(" "), reason));
            }
        }
    }
}

/// A submitting instruction of a function that is decoded.
struct Found {
    /// Index of the function, and of the instruction in it.
    function: usize,
    step: usize,
    what: What,
    instruction: Instruction,
    /// The instruction after it, if that is not one of the three and in the function.
    next: Option<u32>,
}

impl Found {
    /// `None` if the bytes lie inside another instruction.
    fn at(
        candidate: Candidate,
        function: usize,
        whole: &Decoded,
        bitness: u32,
        code: &Code<'_>,
    ) -> Option<Self> {
        let opcode = u32::try_from(code.address + candidate.at as u64 - whole.extent.start).ok()?;
        let step = whole.steps.partition_point(|s| s.at <= opcode).checked_sub(1)?;
        let start = whole.steps[step].at;
        let bytes = bytes(code, whole.extent);
        let decode = |at: u32| {
            let ip = whole.extent.start + u64::from(at);
            Some(Decoder::with_ip(bitness, bytes.get(at as usize..)?, ip, DecoderOptions::NONE).decode())
        };
        let instruction = decode(start)?;
        let what = what(&instruction)?;
        // Not in the displacement of one.
        if !bytes.get(start as usize..opcode as usize)?.iter().all(|b| is_prefix(*b)) {
            return None;
        }
        let next = whole.steps.get(step + 1).map(|s| s.at);
        let next = next.filter(|at| decode(*at).is_some_and(|next| self::what(&next).is_none()));
        Some(Self { function, step, what, instruction, next })
    }

    /// Its cookie and the file offset at which its result is.
    fn site(&self, function: &Decoded, code: &Code<'_>) -> Result<(SiteCookie, Option<u64>), Reason> {
        if !function.is_reached(self.step) {
            return Err(Reason::Unreached);
        }
        if code.writable {
            return Err(Reason::Writable);
        }
        let form = form(&self.instruction)?;
        let next = self.next.filter(|at| self.what != What::Movdir64b && !function.is_target(*at));
        let cookie = SiteCookie::pack(SiteForm { result_follows: next.is_some(), ..form });
        let offset = |at: u32| code.offset + (function.extent.start - code.address) + u64::from(at);
        Ok((cookie, next.map(offset)))
    }
}

/// (address, function) of instructions of which it matters whether something outside of their function leads there: those that may
/// lead to a site, and those after an ENQCMD.
fn wanted<'a>(
    decoded: &[Result<Decoded, Reason>],
    found: impl Iterator<Item = &'a Found>,
) -> Vec<(u64, usize)> {
    let mut wanted = Vec::new();
    let mut whole = vec![false; decoded.len()];
    for found in found {
        let Ok(function) = &decoded[found.function] else { continue };
        let place = |step: &Step| (function.extent.start + u64::from(step.at), found.function);
        if !function.is_reached(found.step) && !std::mem::replace(&mut whole[found.function], true) {
            wanted.extend(
                function
                    .steps
                    .iter()
                    .zip(&function.reached)
                    .filter(|(_, reached)| !**reached)
                    .map(|(s, _)| place(s)),
            );
        }
        if found.what != What::Movdir64b {
            wanted.extend(function.steps.get(found.step + 1).map(place));
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Of the `wanted` (address, function) those to which a jump or call leads from outside of the function. Any four bytes after such
/// an opcode count as its distance, so a real one is never missed.
fn led_to(
    bitness: u32,
    code: &[Code<'_>],
    wanted: &[(u64, usize)],
    decoded: &[Result<Decoded, Reason>],
) -> Vec<(u64, usize)> {
    let (Some((low, _)), Some((high, _))) = (wanted.first(), wanted.last()) else { return Vec::new() };
    let mut hit = vec![false; wanted.len()];
    for piece in code {
        for (at, pair) in piece.bytes.windows(2).enumerate() {
            let distance = match pair {
                [0xe8 | 0xe9, _] => at + 1,
                [0x0f, 0x80..=0x8f] => at + 2,
                _ => continue,
            };
            let Some(relative) = piece.bytes.get(distance..).and_then(|b| b.first_chunk()) else { continue };
            let from = piece.address + distance as u64 + 4;
            let to = from.wrapping_add_signed(i64::from(i32::from_le_bytes(*relative)));
            let to = if bitness == 32 { to & u64::from(u32::MAX) } else { to };
            if !(*low..=*high).contains(&to) {
                continue;
            }
            let Ok(index) = wanted.binary_search_by_key(&to, |w| w.0) else { continue };
            let function = decoded[wanted[index].1].as_ref();
            hit[index] |= function.is_ok_and(|f| !(f.extent.start..f.extent.end).contains(&(from - 1)));
        }
    }
    wanted.iter().zip(hit).filter(|(_, hit)| *hit).map(|(wanted, _)| *wanted).collect()
}

fn what(instruction: &Instruction) -> Option<What> {
    Some(match instruction.code() {
        Opcode::Movdir64b_r16_m512 | Opcode::Movdir64b_r32_m512 | Opcode::Movdir64b_r64_m512 => {
            What::Movdir64b
        }
        Opcode::Enqcmd_r16_m512 | Opcode::Enqcmd_r32_m512 | Opcode::Enqcmd_r64_m512 => What::Enqcmd,
        Opcode::Enqcmds_r16_m512 | Opcode::Enqcmds_r32_m512 | Opcode::Enqcmds_r64_m512 => What::Enqcmds,
        _ => return None,
    })
}

/// As the cookie has it, but for the result.
fn form(instruction: &Instruction) -> Result<SiteForm, Reason> {
    match instruction.segment_prefix() {
        Register::None => {}
        Register::FS => return Err(Reason::Segment("fs")),
        Register::GS => return Err(Reason::Segment("gs")),
        _ => return Err(Reason::SegmentPrefix),
    }
    let kind = match what(instruction) {
        Some(What::Enqcmd) => SiteInstruction::Enqcmd,
        Some(What::Enqcmds) => SiteInstruction::Enqcmds,
        _ => SiteInstruction::Movdir64b,
    };
    let destination = instruction.op0_register();
    let addresses_32 = match instruction.code() {
        Opcode::Movdir64b_r64_m512 | Opcode::Enqcmd_r64_m512 | Opcode::Enqcmds_r64_m512 => false,
        Opcode::Movdir64b_r32_m512 | Opcode::Enqcmd_r32_m512 | Opcode::Enqcmds_r32_m512 => true,
        _ => return Err(Reason::Addresses16),
    };
    let displacement = instruction.memory_displacement64();
    // The decoder gives the address itself.
    let displacement = if instruction.is_ip_rel_memory_operand() {
        displacement.wrapping_sub(instruction.next_ip())
    } else {
        displacement
    };
    let index = number(instruction.memory_index());
    Ok(SiteForm {
        instruction: kind,
        base: number(instruction.memory_base()),
        index,
        scale: if index == register::NONE {
            0
        } else {
            instruction.memory_index_scale().trailing_zeros() as u8
        },
        // Never more than 32 bits in the instruction.
        displacement: displacement as i32,
        destination: number(destination),
        addresses_32,
        result_follows: false,
        length: instruction.len() as u8,
    })
}

fn number(register: Register) -> u8 {
    match register {
        Register::None => register::NONE,
        Register::RIP | Register::EIP => register::NEXT_INSTRUCTION,
        register => 1 + register.number() as u8,
    }
}

/// As `perf annotate` and `objdump` show it.
fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    GasFormatter::new().format(instruction, &mut text);
    text
}

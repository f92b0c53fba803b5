//! Reading BTF: where the members of kernel structs lie, and the ids of functions to attach to.
//!
//! Owns: the type format of vmlinux and of modules (split BTF: ids and strings go on where vmlinux' end). Refuses: holding more
//! than the bytes and one offset a type; a whole parse of vmlinux costs tens of megabytes and, on a small machine, seconds.
//! Input is bounds-checked throughout: a truncated or hostile file is an error.

use std::collections::HashMap;

use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    #[error("BTF of {object} is malformed: {what}")]
    Malformed { object: String, what: &'static str },
    #[error("BTF of {object} has no {kind} {name}")]
    NotFound { object: String, kind: &'static str, name: String },
}

/// BTF kinds that are looked up by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Struct,
    Typedef,
    Func,
}

impl Kind {
    const fn code(self) -> u32 {
        match self {
            Self::Struct => 4,
            Self::Typedef => 8,
            Self::Func => 12,
        }
    }
    const fn name(self) -> &'static str {
        match self {
            Self::Struct => "struct",
            Self::Typedef => "typedef",
            Self::Func => "function",
        }
    }
}

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Anonymous members nest at most this deep in any kernel struct.
const MAX_NESTING: u32 = 16;

/// One BTF object; a module's refers to vmlinux' as its base.
#[derive(Debug)]
pub struct Btf<'a> {
    object: String,
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Offset of each type in `types`; index 0 is `first_id`.
    at: Vec<u32>,
    first_id: u32,
    base: Option<&'a Btf<'a>>,
}

struct Type<'b> {
    name: u32,
    kind: u32,
    members: u32,
    bitfields: bool,
    /// Size, or the id of the type referred to.
    size_or_type: u32,
    rest: &'b [u8],
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset.checked_add(4)?).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
}

impl<'a> Btf<'a> {
    /// `bytes`: a whole BTF object as `/sys/kernel/btf/<object>` gives it.
    pub fn parse(object: &str, bytes: &[u8], base: Option<&'a Btf<'a>>) -> Result<Self, BtfError> {
        let bad = |what| BtfError::Malformed { object: object.into(), what };
        let header =
            |offset| u32_at(bytes, offset).map(|v| v as usize).ok_or_else(|| bad("header cut short"));
        if bytes.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(bad("wrong magic"));
        }
        let start = header(4)?;
        let section = |offset: usize, length: usize| {
            let from = start.checked_add(offset)?;
            bytes.get(from..from.checked_add(length)?).map(<[u8]>::to_vec)
        };
        let types = section(header(8)?, header(12)?).ok_or_else(|| bad("type section cut short"))?;
        let strings = section(header(16)?, header(20)?).ok_or_else(|| bad("string section cut short"))?;
        let mut at = Vec::with_capacity(types.len() / 32);
        let mut offset = 0;
        while offset < types.len() {
            at.push(offset as u32);
            let info = u32_at(&types, offset + 4).ok_or_else(|| bad("type cut short"))?;
            let n = (info & 0xffff) as usize;
            offset += 12
                + match info >> 24 & 0x1f {
                    1 | 14 | 17 => 4,
                    3 => 12,
                    4 | 5 | 15 | 19 => n * 12,
                    6 | 13 => n * 8,
                    _ => 0,
                };
        }
        if offset != types.len() {
            return Err(bad("last type cut short"));
        }
        let first_id = base.map_or(1, |b| b.first_id + b.at.len() as u32);
        Ok(Self { object: object.into(), types, strings, at, first_id, base })
    }

    /// Length of the strings that come before this object's own.
    fn strings_before(&self) -> u32 {
        self.base.map_or(0, |b| b.strings_before() + b.strings.len() as u32)
    }

    fn string(&self, offset: u32) -> Option<&[u8]> {
        let before = self.strings_before();
        if offset < before {
            return self.base?.string(offset);
        }
        let bytes = self.strings.get((offset - before) as usize..)?;
        bytes.iter().position(|&b| b == 0).map(|end| &bytes[..end])
    }

    /// Where each of `names` stands in the strings of this object and of its base: (offset, index in `names`).
    fn string_offsets(&self, names: &HashMap<&[u8], usize>) -> Vec<(u32, usize)> {
        let mut found = self.base.map_or_else(Vec::new, |b| b.string_offsets(names));
        let before = self.strings_before();
        let mut start = 0;
        for end in memchr::memchr_iter(0, &self.strings) {
            if let Some(&index) = names.get(&self.strings[start..end]) {
                found.push((before + start as u32, index));
            }
            start = end + 1;
        }
        found
    }

    fn get(&self, id: u32) -> Option<Type<'_>> {
        if id < self.first_id {
            return self.base?.get(id);
        }
        let offset = *self.at.get((id - self.first_id) as usize)? as usize;
        let info = u32_at(&self.types, offset + 4)?;
        Some(Type {
            name: u32_at(&self.types, offset)?,
            kind: info >> 24 & 0x1f,
            members: info & 0xffff,
            bitfields: info >> 31 == 1,
            size_or_type: u32_at(&self.types, offset + 8)?,
            rest: self.types.get(offset + 12..)?,
        })
    }

    /// Ids of all of `wanted` in one pass over this object's own types; what is not here is not in the result.
    pub fn find(&self, wanted: &[(Kind, &str)]) -> HashMap<(Kind, String), u32> {
        let mut names: HashMap<&[u8], usize> = HashMap::new();
        for (_, name) in wanted {
            let next = names.len();
            names.entry(name.as_bytes()).or_insert(next);
        }
        let mut strings = self.string_offsets(&names);
        strings.sort_unstable();
        let mut found = HashMap::new();
        for (index, &offset) in self.at.iter().enumerate() {
            let offset = offset as usize;
            let (Some(name), Some(info)) = (u32_at(&self.types, offset), u32_at(&self.types, offset + 4))
            else {
                continue;
            };
            let Ok(string) = strings.binary_search_by_key(&name, |s| s.0) else { continue };
            for &(kind, text) in wanted {
                if info >> 24 & 0x1f == kind.code() && names.get(text.as_bytes()) == Some(&strings[string].1)
                {
                    found.entry((kind, text.to_owned())).or_insert(self.first_id + index as u32);
                }
            }
        }
        found
    }

    /// The id of one type; this object first, then its base.
    pub fn id(&self, kind: Kind, name: &str) -> Result<u32, BtfError> {
        if let Some(id) = self.find(&[(kind, name)]).into_values().next() {
            return Ok(id);
        }
        match self.base {
            Some(base) => base.id(kind, name),
            None => {
                Err(BtfError::NotFound { object: self.object.clone(), kind: kind.name(), name: name.into() })
            }
        }
    }

    /// Byte offset of `path` ("member" or "member.member") in the struct `id`. Members of anonymous structs and unions count as
    /// the outer struct's own.
    pub fn member_offset(&self, id: u32, path: &str) -> Result<u32, BtfError> {
        let missing =
            || BtfError::NotFound { object: self.object.clone(), kind: "member", name: path.to_owned() };
        let mut current = id;
        let mut bytes = 0;
        for name in path.split('.') {
            let (bits, member_type) = self.member(current, name.as_bytes(), 0).ok_or_else(missing)?;
            bytes += bits / 8;
            current = member_type;
        }
        Ok(bytes)
    }

    /// (offset in bits, type) of a member.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        if depth > MAX_NESTING {
            return None;
        }
        let outer = self.get(self.resolved(id)?)?;
        if outer.kind != STRUCT && outer.kind != UNION {
            return None;
        }
        for n in 0..outer.members as usize {
            let member_name = u32_at(outer.rest, n * 12)?;
            let member_type = u32_at(outer.rest, n * 12 + 4)?;
            let offset = u32_at(outer.rest, n * 12 + 8)?;
            let bits = if outer.bitfields { offset & 0xff_ffff } else { offset };
            let text = self.string(member_name)?;
            if text == name {
                return Some((bits, member_type));
            }
            if text.is_empty()
                && let Some((inner, found)) = self.member(member_type, name, depth + 1)
            {
                return Some((bits + inner, found));
            }
        }
        None
    }

    /// Through typedefs and qualifiers to the type itself.
    fn resolved(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_NESTING {
            let t = self.get(id)?;
            match t.kind {
                8..=11 | 18 => id = t.size_or_type,
                _ => return Some(id),
            }
        }
        None
    }

    /// Name of a type, for tests and messages.
    #[must_use]
    pub fn type_name(&self, id: u32) -> Option<String> {
        self.string(self.get(id)?.name).map(|b| String::from_utf8_lossy(b).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes BTF by hand: strings and types as the format has them.
    #[derive(Default)]
    struct Writer {
        strings: Vec<u8>,
        strings_before: u32,
        types: Vec<u8>,
    }

    impl Writer {
        fn string(&mut self, text: &str) -> u32 {
            if text.is_empty() {
                return 0;
            }
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            let at = self.strings.len() as u32;
            self.strings.extend_from_slice(text.as_bytes());
            self.strings.push(0);
            self.strings_before + at
        }
        fn word(&mut self, v: u32) {
            self.types.extend_from_slice(&v.to_ne_bytes());
        }
        fn head(&mut self, name: &str, kind: u32, n: u32, size: u32) {
            let name = self.string(name);
            self.word(name);
            self.word(kind << 24 | n);
            self.word(size);
        }
        fn composite(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) {
            let names: Vec<u32> = members.iter().map(|m| self.string(m.0)).collect();
            self.head(name, kind, members.len() as u32, 64);
            for (name, m) in names.into_iter().zip(members) {
                self.word(name);
                self.word(m.1);
                self.word(m.2 * 8);
            }
        }
        fn bytes(&self) -> Vec<u8> {
            let mut out = Vec::new();
            out.extend_from_slice(&MAGIC.to_ne_bytes());
            out.extend_from_slice(&[1, 0]);
            for v in [24, 0, self.types.len() as u32, self.types.len() as u32, self.strings.len() as u32] {
                out.extend_from_slice(&v.to_ne_bytes());
            }
            out.extend_from_slice(&self.types);
            out.extend_from_slice(&self.strings);
            out
        }
    }

    /// 1 int; 2 anonymous union { a, b }; 3 struct outer { int x; union at 8; inner at 16 }; 4 struct inner { int deep at 4 }
    fn vmlinux() -> Writer {
        let mut w = Writer::default();
        w.head("int", 1, 0, 4);
        w.word(0);
        w.composite(UNION, "", &[("a", 1, 0), ("b", 1, 4)]);
        w.composite(STRUCT, "outer", &[("x", 1, 0), ("", 2, 8), ("inner", 4, 16)]);
        w.composite(STRUCT, "inner", &[("deep", 1, 4)]);
        w
    }

    #[test]
    fn members_lie_where_btf_says() {
        let bytes = vmlinux().bytes();
        let btf = Btf::parse("vmlinux", &bytes, None).unwrap();
        let outer = btf.id(Kind::Struct, "outer").unwrap();
        assert_eq!(outer, 3);
        for (path, offset) in [("x", 0), ("a", 8), ("b", 12), ("inner", 16), ("inner.deep", 20)] {
            assert_eq!(btf.member_offset(outer, path), Ok(offset), "{path}");
        }
        assert!(matches!(btf.member_offset(outer, "nope"), Err(BtfError::NotFound { .. })));
    }

    #[test]
    fn a_module_goes_on_where_vmlinux_ends() {
        let base_bytes = vmlinux().bytes();
        let base = Btf::parse("vmlinux", &base_bytes, None).unwrap();
        let mut w = Writer { strings_before: base.strings.len() as u32, ..Writer::default() };
        w.composite(STRUCT, "of_module", &[("first", 1, 0), ("embedded", 3, 32)]);
        w.head("a_function", 12, 0, 1);
        let bytes = w.bytes();
        let module = Btf::parse("idxd", &bytes, Some(&base)).unwrap();
        let id = module.id(Kind::Struct, "of_module").unwrap();
        assert_eq!(id, 5);
        assert_eq!(module.id(Kind::Func, "a_function"), Ok(6));
        assert_eq!(module.member_offset(id, "embedded.inner.deep"), Ok(52));
        assert_eq!(module.id(Kind::Struct, "outer"), Ok(3), "what a module lacks is looked for in its base");
        assert!(matches!(module.id(Kind::Func, "outer"), Err(BtfError::NotFound { .. })));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error_or_a_valid_object(cut in 0usize..400, flip in 0usize..400, to: u8) {
            let mut bytes = vmlinux().bytes();
            let n = bytes.len();
            bytes[flip % n] = to;
            bytes.truncate(n - cut % n);
            if let Ok(btf) = Btf::parse("x", &bytes, None) {
                for id in 0..8 {
                    let _ = btf.member_offset(id, "inner.deep");
                    let _ = btf.type_name(id);
                }
                let _ = btf.id(Kind::Struct, "outer");
            }
        }
    }
}

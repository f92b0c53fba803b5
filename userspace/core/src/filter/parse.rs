//! Text to filter, by recursive descent. What was expected where the text ends is what completion offers there.

use super::{Check, Constant, Field, Filter, Kind, MOST_CHARS, MOST_DEPTH, Node, Pattern, Vocabulary};
use crate::expression::{BYTES, COUNT, Comparison, ConditionError, Reader, TIME, nearest};

/// What can come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A field, `not`, or an opening parenthesis.
    Term,
    Operator(Field),
    /// `known` or `unknown`.
    Presence,
    Value(Field),
    /// The same, of a pattern.
    Pattern,
    /// The opening parenthesis of a list.
    List,
    /// More of a list, or its end.
    ListGoesOn,
    /// `and`, `or`; a closing parenthesis where one is open.
    Connective {
        open: bool,
    },
    Nothing,
}

/// What is wrong; and what would have been right, when nothing is wrong but that the text ends.
type Wrong = (ConditionError, Expected);

pub(super) fn parse(text: &str) -> Result<Filter, Wrong> {
    let mut parser = Parser { text, reader: Reader::new(text), expected: Expected::Term, depth: 0 };
    if text.chars().count() > MOST_CHARS {
        return Err(parser.wrong_at(0, format!("a filter has {MOST_CHARS} characters at most")));
    }
    let root = parser.either()?;
    match parser.reader.peek() {
        None => Ok(Filter { root }),
        Some(')') => Err(parser.wrong("no parenthesis is open here")),
        Some(_) => Err(parser.no_connective()),
    }
}

struct Parser<'a> {
    text: &'a str,
    reader: Reader<'a>,
    expected: Expected,
    depth: usize,
}

const SIGNS: &[&str] = &["==", "!=", "!~", "<=", ">=", "<", ">", "~"];
/// What other languages write.
const FOREIGN: &[(&str, &str)] =
    &[("&&", "and"), ("||", "or"), ("&", "and"), ("|", "or"), ("=~", "~"), ("=", "=="), ("!", "not")];

impl Parser<'_> {
    fn wrong(&self, what: impl Into<String>) -> Wrong {
        self.wrong_at(self.reader.place(), what)
    }

    fn wrong_at(&self, place: usize, what: impl Into<String>) -> Wrong {
        let at_end = self.text.get(place..).is_none_or(|rest| rest.trim_start().is_empty());
        (self.reader.error_at(place, what), if at_end { self.expected } else { Expected::Nothing })
    }

    fn read<T>(&self, read: Result<T, ConditionError>) -> Result<T, Wrong> {
        read.map_err(|error| self.wrong(error.what))
    }

    /// The word that comes next, not taken.
    fn ahead(&self) -> String {
        self.reader.clone().word().to_owned()
    }

    /// Takes `word` if it comes next.
    fn takes(&mut self, word: &str) -> bool {
        let mut reader = self.reader.clone();
        let found = reader.word() == word;
        if found {
            self.reader = reader;
        }
        found
    }

    /// What is said of a sign of another language that comes next.
    fn foreign(&mut self) -> Option<String> {
        let signs: Vec<_> = FOREIGN.iter().map(|(sign, _)| *sign).collect();
        let found = self.reader.clone().sign(&signs)?;
        let (_, ours) = FOREIGN.iter().find(|(sign, _)| *sign == found)?;
        Some(format!("{found} is written {ours}"))
    }

    fn either(&mut self) -> Result<Node, Wrong> {
        self.chain("or", Self::both, Node::Any)
    }

    fn both(&mut self) -> Result<Node, Wrong> {
        self.chain("and", Self::term, Node::All)
    }

    fn chain(
        &mut self,
        word: &str,
        mut part: impl FnMut(&mut Self) -> Result<Node, Wrong>,
        node: fn(Box<[Node]>) -> Node,
    ) -> Result<Node, Wrong> {
        let first = part(self)?;
        let mut more = Vec::new();
        while self.takes(word) {
            more.push(part(self)?);
        }
        Ok(if more.is_empty() { first } else { node(std::iter::once(first).chain(more).collect()) })
    }

    fn deeper<T>(&mut self, of: impl FnOnce(&mut Self) -> Result<T, Wrong>) -> Result<T, Wrong> {
        if self.depth >= MOST_DEPTH {
            return Err(
                self.wrong(format!("more than {MOST_DEPTH} parentheses and nots are within each other here"))
            );
        }
        self.depth += 1;
        let done = of(self);
        self.depth -= 1;
        done
    }

    fn term(&mut self) -> Result<Node, Wrong> {
        self.expected = Expected::Term;
        if self.takes("not") {
            return self.deeper(|parser| parser.term().map(|node| Node::Not(node.into())));
        }
        if self.reader.sign(&["("]).is_none() {
            return self.test();
        }
        let place = self.reader.place();
        let node = self.deeper(Self::either)?;
        self.expected = Expected::Connective { open: true };
        if self.reader.sign(&[")"]).is_some() {
            self.after_value();
            return Ok(node);
        }
        match self.reader.peek() {
            None => Err((self.reader.error_at(place, "this parenthesis is not closed"), self.expected)),
            Some(_) => Err(self.no_connective()),
        }
    }

    fn after_value(&mut self) {
        self.expected = Expected::Connective { open: self.depth > 0 };
    }

    fn no_connective(&mut self) -> Wrong {
        let what = self.foreign().unwrap_or_else(|| "expected `and`, `or`, or the end".into());
        self.wrong(what)
    }

    fn test(&mut self) -> Result<Node, Wrong> {
        let word = self.reader.word();
        let Some(field) = Field::named(word) else {
            return Err(self.no_field(word));
        };
        self.expected = Expected::Operator(field);
        let check = self.check(field)?;
        self.after_value();
        Ok(Node::Test(field, check))
    }

    fn no_field(&mut self, word: &str) -> Wrong {
        if word.is_empty() {
            let what = match self.foreign() {
                Some(what) => what,
                None if self.reader.peek().is_none() => "a field is missing here".into(),
                None => "expected a field".into(),
            };
            return self.wrong(what);
        }
        let names = Field::ALL.iter().flat_map(|field| [field.name(), field.entry().column]);
        let near = nearest(word, names).or_else(|| {
            // `pasid_` or `proc`: the beginning of one.
            Field::ALL.iter().map(|field| field.name()).find(|name| word.len() > 1 && name.starts_with(word))
        });
        self.wrong(match near {
            Some(near) => format!("there is no field {word}: did you mean {near}?"),
            None => format!("there is no field {word}; docs/filter.md has all of them"),
        })
    }

    fn check(&mut self, field: Field) -> Result<Check, Wrong> {
        let kind = field.kind();
        match self.ahead().as_str() {
            "is" => return self.presence(),
            "in" => return self.list(field, false),
            "not" => {
                self.takes("not");
                if self.ahead() != "in" {
                    let what = "expected `not in`: the `not` of a whole comparison stands before its field";
                    return Err(self.wrong(what));
                }
                return self.list(field, true);
            }
            _ => {}
        }
        let Some(sign) = self.reader.sign(SIGNS) else {
            let alone = matches!(self.reader.peek(), None | Some(')'))
                || matches!(self.ahead().as_str(), "and" | "or");
            if kind == Kind::Bool && alone {
                return Ok(Check::Bool(true));
            }
            let what = self.foreign().unwrap_or_else(|| format!("expected {}", operators(kind)));
            return Err(self.wrong(what));
        };
        match sign {
            "~" | "!~" if kind.is_text() => {
                self.expected = Expected::Pattern;
                let pattern = Pattern::new(&self.text("text in quotes, such as \"redis*\"")?);
                Ok(Check::Like { negated: sign == "!~", pattern })
            }
            "==" | "!=" => {
                self.expected = Expected::Value(field);
                let value = self.value(field)?;
                Ok(one_of(sign == "!=", vec![value]))
            }
            "<" | "<=" | ">" | ">=" if kind.is_ordered() => {
                self.expected = Expected::Value(field);
                let bound = self.number(kind)?;
                Ok(Check::Ordered(comparison(sign), bound))
            }
            _ => {
                Err(self.wrong(format!("{} is {}: expected {}", field.name(), kind.noun(), operators(kind))))
            }
        }
    }

    fn presence(&mut self) -> Result<Check, Wrong> {
        self.takes("is");
        self.expected = Expected::Presence;
        let known = match self.reader.word() {
            "known" => true,
            "unknown" => false,
            _ => return Err(self.wrong("expected `known` or `unknown`")),
        };
        Ok(Check::Known(known))
    }

    fn list(&mut self, field: Field, negated: bool) -> Result<Check, Wrong> {
        let kind = field.kind();
        self.takes("in");
        if kind == Kind::Bool {
            return Err(self.wrong(format!(
                "{} is {}: expected {}",
                field.name(),
                kind.noun(),
                operators(kind)
            )));
        }
        self.expected = Expected::List;
        if self.reader.sign(&["("]).is_none() {
            return Err(self.wrong("expected a list: ( and values with commas between"));
        }
        let mut values = Vec::new();
        loop {
            self.expected = Expected::Value(field);
            values.push(self.value(field)?);
            self.expected = Expected::ListGoesOn;
            match self.reader.sign(&[",", ")"]) {
                Some(",") => {}
                Some(_) => return Ok(one_of(negated, values)),
                None => return Err(self.wrong("expected , or )")),
            }
        }
    }

    fn value(&mut self, field: Field) -> Result<Literal, Wrong> {
        let kind = field.kind();
        Ok(match kind {
            Kind::Text => Literal::Text(self.text(kind.expected())?.into()),
            Kind::Bool => match self.reader.word() {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                _ => return Err(self.wrong(format!("expected {}", kind.expected()))),
            },
            Kind::Constant(vocabulary) => Literal::Constant(self.constant(vocabulary)?),
            _ => Literal::Number(self.number(kind)?),
        })
    }

    fn number(&mut self, kind: Kind) -> Result<u64, Wrong> {
        let units = match kind {
            Kind::Bytes => BYTES,
            Kind::Duration | Kind::Time => TIME,
            _ => COUNT,
        };
        let number = self.reader.whole(units, kind.expected());
        self.read(number)
    }

    /// In quotes, or a word that could be nothing else.
    fn text(&mut self, expected: &str) -> Result<String, Wrong> {
        let quoted = self.reader.quoted();
        if let Some(text) = self.read(quoted)? {
            return Ok(text);
        }
        match self.reader.word() {
            "" | "and" | "or" | "not" => Err(self.wrong(format!("expected {expected}"))),
            word if word.starts_with(|c: char| c.is_ascii_digit()) => {
                Err(self.wrong(format!("text that begins with a digit is put in quotes: \"{word}\"")))
            }
            word if self.reader.adjoins().is_some_and(|c| !"),".contains(c)) => Err(self
                .wrong(format!("text with other signs than / - _ . is put in quotes, such as \"{word}*\""))),
            word => Ok(word.into()),
        }
    }

    fn constant(&mut self, vocabulary: Vocabulary) -> Result<Constant, Wrong> {
        let expected = || format!("expected {}", vocabulary.expected());
        if self.reader.peek().is_some_and(|c| c.is_ascii_digit()) {
            let code = self.reader.whole(COUNT, vocabulary.expected());
            let code = self.read(code)?;
            return vocabulary.code(code).ok_or_else(|| self.wrong(expected()));
        }
        let name = self.text(vocabulary.expected())?;
        vocabulary.constant(&name).ok_or_else(|| {
            let names = vocabulary.names();
            self.wrong(match nearest(&name, names.iter().copied()) {
                Some(near) => format!("there is no {} {name}: did you mean {near}?", vocabulary.name()),
                None => format!("there is no {} {name}: {}", vocabulary.name(), expected()),
            })
        })
    }
}

/// What can be compared with a field.
enum Literal {
    Number(u64),
    Text(Box<str>),
    Bool(bool),
    Constant(Constant),
}

/// Values of one field are of one kind.
fn one_of(negated: bool, values: Vec<Literal>) -> Check {
    let (mut numbers, mut texts, mut constants) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        match value {
            Literal::Number(number) => numbers.push(number),
            Literal::Text(text) => texts.push(text),
            Literal::Constant(constant) => constants.push(constant),
            Literal::Bool(is) => return Check::Bool(is != negated),
        }
    }
    if !texts.is_empty() {
        Check::Texts { negated, any: texts.into() }
    } else if !constants.is_empty() {
        Check::Constants { negated, any: constants.into() }
    } else {
        Check::Numbers { negated, any: numbers.into() }
    }
}

fn comparison(sign: &str) -> Comparison {
    match sign {
        "<" => Comparison::Below,
        "<=" => Comparison::AtMost,
        ">" => Comparison::Above,
        _ => Comparison::AtLeast,
    }
}

/// What a field of this kind can be followed by.
pub(super) const fn operators(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "== or != or `is`, or nothing more",
        kind if kind.is_ordered() => "one of == != < <= > >=, `in` or `is`",
        _ => "one of == != ~ !~, `in` or `is`",
    }
}

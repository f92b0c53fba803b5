//! What `~` asks of a text: that it contains a word or, where the word has `*` or `?`, that all of it looks so. Case of ASCII letters does
//! not matter.

/// A word or a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    is_glob: bool,
}

impl Pattern {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), is_glob: text.contains(['*', '?']) }
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.is_glob { glob(&self.text, text) } else { contains(text, &self.text) }
    }
}

fn contains(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    word.is_empty() || text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// Goes back to the last star alone, so that the time is bounded by the product of both lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Behind the last star, and where the text that it does not take begins.
    let mut star = None;
    loop {
        let (mut next, mut rest) = (pattern.clone(), text.clone());
        match (next.next(), rest.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((next.clone(), text.clone()));
                pattern = next;
                continue;
            }
            (Some(p), Some(t)) if p == '?' || p.eq_ignore_ascii_case(&t) => {
                (pattern, text) = (next, rest);
                continue;
            }
            _ => {}
        }
        let Some((behind, taken)) = &mut star else { return false };
        if taken.next().is_none() {
            return false;
        }
        (pattern, text) = (behind.clone(), taken.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_and_globs() {
        for (pattern, text) in [
            ("", "redis"),
            ("EDI", "redis"),
            ("redis", "redis"),
            ("*", ""),
            ("r*s", "redis"),
            ("re?is", "Redis"),
            ("*/redis-?.service", "/system.slice/redis-1.service"),
            ("*a*b*c", "xaybzabc"),
            ("ä?", "äö"),
        ] {
            assert!(Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("redis", "redi"),
            ("r*x", "redis"),
            ("?", ""),
            ("redi?", "redis2"),
            ("*a*b*c", "xaybza"),
            ("a?c", "ac"),
        ] {
            assert!(!Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
    }

    /// What a glob means, said in the simplest way.
    fn reference(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|taken| reference(rest, &text[taken..])),
            ([p, rest @ ..], [t, behind @ ..]) => (*p == '?' || p == t) && reference(rest, behind),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_glob_means_what_it_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(&pattern, &text), reference(&chars(&pattern), &chars(&text)));
        }
    }
}

//! Styles and glyphs. Sixteen terminal colours at most, none of them needed to understand the screen: what a colour says, a word or a
//! mark says too. Blue/yellow/red differ in lightness for every kind of colour vision; red never stands against green.

use ratatui::style::{Color, Modifier, Style};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    Ansi16,
    /// `NO_COLOR` or a terminal without: bold, dim, reverse and underline only.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyphs {
    Unicode,
    Ascii,
}

/// What a time line shows of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Queue,
    Service,
    Copy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    pub colours: Colours,
    pub glyphs: Glyphs,
}

impl Theme {
    pub const PLAIN: Self = Self { colours: Colours::None, glyphs: Glyphs::Ascii };

    /// From the environment's values: `NO_COLOR` (set and not empty), `TERM`, and the locale in force (`LC_ALL`, else
    /// `LC_CTYPE`, else `LANG`).
    pub fn from_env(no_color: Option<&str>, term: Option<&str>, locale: Option<&str>) -> Self {
        let dumb = matches!(term, Some("dumb" | "vt100" | "vt102"));
        let colours = match no_color {
            Some(value) if !value.is_empty() => Colours::None,
            _ if dumb => Colours::None,
            _ => Colours::Ansi16,
        };
        let utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        let glyphs = if utf8 { Glyphs::Unicode } else { Glyphs::Ascii };
        Self { colours, glyphs }
    }

    fn style(&self, colour: Color, modifier: Modifier) -> Style {
        match self.colours {
            Colours::Ansi16 => Style::new().fg(colour).add_modifier(modifier),
            Colours::None => Style::new().add_modifier(modifier),
        }
    }

    pub fn text(&self) -> Style {
        Style::new()
    }

    pub fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Labels, rules and what is of less weight.
    pub fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn good(&self) -> Style {
        self.style(Color::Cyan, Modifier::empty())
    }

    pub fn warn(&self) -> Style {
        self.style(Color::Yellow, Modifier::BOLD)
    }

    pub fn bad(&self) -> Style {
        self.style(Color::LightRed, Modifier::BOLD)
    }

    pub fn title(&self, focused: bool) -> Style {
        if focused { self.style(Color::LightCyan, Modifier::BOLD) } else { self.strong() }
    }

    pub fn columns(&self) -> Style {
        self.style(Color::Blue, Modifier::BOLD)
    }

    pub fn selected(&self, focused: bool) -> Style {
        Style::new().add_modifier(if focused { Modifier::REVERSED } else { Modifier::UNDERLINED })
    }

    pub fn key(&self) -> Style {
        self.style(Color::Cyan, Modifier::BOLD)
    }

    pub fn bar(&self) -> Style {
        self.style(Color::Cyan, Modifier::empty())
    }

    /// What is held against, or was marked: beside a sign of its own.
    pub fn mark(&self) -> Style {
        self.style(Color::Yellow, Modifier::BOLD)
    }

    pub fn rule(&self) -> &'static str {
        match self.glyphs {
            Glyphs::Unicode => "─",
            Glyphs::Ascii => "-",
        }
    }

    /// Marks the order of the sorted column.
    pub fn order(&self, descending: bool) -> &'static str {
        match (self.glyphs, descending) {
            (Glyphs::Unicode, true) => "▼",
            (Glyphs::Unicode, false) => "▲",
            (Glyphs::Ascii, true) => "v",
            (Glyphs::Ascii, false) => "^",
        }
    }

    /// Between two moments.
    pub fn arrow(&self) -> &'static str {
        match self.glyphs {
            Glyphs::Unicode => "→",
            Glyphs::Ascii => "->",
        }
    }

    /// Microseconds.
    pub fn micro(&self) -> &'static str {
        match self.glyphs {
            Glyphs::Unicode => "µs",
            Glyphs::Ascii => "us",
        }
    }

    /// A vertical bar cell filled to `eighths` of 8.
    pub fn column_cell(&self, eighths: usize) -> &'static str {
        const UNICODE: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
        const ASCII: [&str; 9] = [" ", ".", ".", ":", ":", ":", "|", "|", "#"];
        let eighths = eighths.min(8);
        match self.glyphs {
            Glyphs::Unicode => UNICODE[eighths],
            Glyphs::Ascii => ASCII[eighths],
        }
    }

    /// A cell of a map: the logarithm of `count` between 0 and `most` in five steps. One is never blank.
    pub fn shade(&self, count: u64, most: u64) -> &'static str {
        const UNICODE: [&str; 5] = [" ", "░", "▒", "▓", "█"];
        const ASCII: [&str; 5] = [" ", ".", ":", "*", "#"];
        let share = if most > 1 { (count.max(1) as f64).ln() / (most as f64).ln() } else { 1.0 };
        let step = if count == 0 { 0 } else { 1 + (share * 3.0).round().clamp(0.0, 3.0) as usize };
        match self.glyphs {
            Glyphs::Unicode => UNICODE[step],
            Glyphs::Ascii => ASCII[step],
        }
    }

    /// A cell a point, the highest full; a point that is not 0 is never blank.
    pub fn sparkline(&self, points: &[u64]) -> String {
        let most = points.iter().copied().max().unwrap_or(0).max(1);
        let eighths = |point: u64| point.saturating_mul(8).div_ceil(most) as usize;
        points.iter().map(|&point| self.column_cell(eighths(point))).collect()
    }

    /// A cell of a time line.
    pub fn part(&self, part: Part) -> &'static str {
        match (self.glyphs, part) {
            (Glyphs::Unicode, Part::Queue) => "░",
            (Glyphs::Unicode, Part::Service) => "▒",
            (Glyphs::Unicode, Part::Copy) => "█",
            (Glyphs::Ascii, Part::Queue) => ".",
            (Glyphs::Ascii, Part::Service) => "-",
            (Glyphs::Ascii, Part::Copy) => "=",
        }
    }

    /// A cell of a horizontal bar.
    pub fn row_cell(&self) -> &'static str {
        match self.glyphs {
            Glyphs::Unicode => "█",
            Glyphs::Ascii => "#",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment() {
        let utf8 = Some("en_GB.UTF-8");
        let theme = Theme::from_env(None, Some("xterm-256color"), utf8);
        assert_eq!(theme, Theme { colours: Colours::Ansi16, glyphs: Glyphs::Unicode });
        assert_eq!(Theme::from_env(Some("1"), Some("xterm"), utf8).colours, Colours::None);
        assert_eq!(Theme::from_env(Some(""), Some("xterm"), utf8).colours, Colours::Ansi16);
        assert_eq!(Theme::from_env(None, Some("vt100"), Some("C")), Theme::PLAIN);
        assert_eq!(Theme::from_env(None, Some("linux"), None).glyphs, Glyphs::Ascii);
    }

    #[test]
    fn without_colours_nothing_sets_one() {
        let theme = Theme { colours: Colours::None, glyphs: Glyphs::Unicode };
        let styles = [
            theme.good(),
            theme.warn(),
            theme.bad(),
            theme.title(true),
            theme.key(),
            theme.bar(),
            theme.mark(),
            theme.columns(),
        ];
        for style in styles {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}

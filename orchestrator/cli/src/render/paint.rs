//! Colours, where somebody can see them.

use fog_api::migration::Phase;
use fog_api::node::Availability;

/// Paints, or leaves as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Head,
    Quiet,
    Good,
    Warning,
    Bad,
}

impl Paint {
    pub(crate) const fn new(on: bool) -> Self {
        Self { on }
    }

    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Head => "1",
            Tone::Quiet => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
        };
        if self.on && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(crate) fn head(self, text: &str) -> String {
        self.tone(Tone::Head, text)
    }

    pub(crate) fn quiet(self, text: &str) -> String {
        self.tone(Tone::Quiet, text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.tone(Tone::Bad, text)
    }
}

impl From<Phase> for Tone {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Done => Self::Good,
            Phase::RollingBack | Phase::RolledBack => Self::Warning,
            Phase::Failed => Self::Bad,
            _ => Self::Head,
        }
    }
}

impl From<Availability> for Tone {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Active => Self::Good,
            Availability::Suspect => Self::Warning,
            Availability::Offline => Self::Bad,
        }
    }
}

/// A share of something that runs out: calm, getting full, full.
pub(crate) fn load(fraction: f64) -> Tone {
    match fraction {
        high if high >= 0.8 => Tone::Bad,
        middle if middle >= 0.6 => Tone::Warning,
        _ => Tone::Plain,
    }
}

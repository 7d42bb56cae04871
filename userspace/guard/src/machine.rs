//! Calm, watch, attack: up at once, down after a while.

use std::time::{Duration, Instant};

use weir_abi::guard::Mode;
use weir_model::{Guard, SynGuard};

/// What the operator wants of one VIP or listener, over what the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Setting {
    /// As the configuration says.
    #[default]
    Auto,
    /// As if it were attacked.
    Attack,
    /// Not guarded.
    Off,
}

impl Setting {
    /// Every one with the word users type for it.
    pub const NAMES: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("attack", Self::Attack), ("off", Self::Off)];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, setting)| *setting == self).map_or("auto", |(name, _)| name)
    }
}

/// The state of one VIP or listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    mode: Mode,
    since: Instant,
    /// When the rate last asked for this mode, or for more.
    asked: Instant,
}

impl Machine {
    /// One that begins now.
    #[must_use]
    pub fn new(mode: Mode, now: Instant) -> Self {
        Self { mode, since: now, asked: now }
    }

    /// What it does.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Since when.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Takes the rate of SYNs a second; the mode before if that changes it.
    pub fn on_rate(
        &mut self,
        rate: f64,
        guard: &Guard,
        setting: Setting,
        now: Instant,
    ) -> Option<Mode> {
        let (wanted, patience) = match (setting, guard.syn) {
            (Setting::Off, _) | (Setting::Auto, SynGuard::Off) => (Mode::Off, Duration::ZERO),
            (Setting::Attack, _) | (Setting::Auto, SynGuard::Always) => {
                (Mode::Attack, Duration::ZERO)
            }
            (Setting::Auto, SynGuard::Auto) => (level(rate, guard.syn_rate), guard.calm_after),
        };
        if wanted >= self.mode {
            self.asked = now;
        }
        let is_over = now.saturating_duration_since(self.asked) >= patience;
        if wanted > self.mode || wanted < self.mode && is_over {
            let before = self.mode;
            *self = Self::new(wanted, now);
            return Some(before);
        }
        None
    }
}

/// What a rate asks for: from half the threshold on sources are watched.
#[must_use]
pub fn level(rate: f64, threshold: u32) -> Mode {
    let threshold = f64::from(threshold);
    match rate {
        _ if rate >= threshold => Mode::Attack,
        _ if rate >= threshold / 2.0 => Mode::Watch,
        _ => Mode::Calm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second each, with the rate in thousands; the answer has `C`, `W`, `A` or `O` where the mode changes.
    fn run(guard: &Guard, setting: Setting, rates: &[u32]) -> String {
        let start = Instant::now();
        let mut machine = Machine::new(Mode::Calm, start);
        let step = |(second, rate): (u64, &u32)| {
            let now = start + Duration::from_secs(second);
            let changed = machine.on_rate(f64::from(*rate) * 1e3, guard, setting, now);
            match (changed, machine.mode()) {
                (None, _) => '.',
                (Some(_), Mode::Off) => 'O',
                (Some(_), Mode::Calm) => 'C',
                (Some(_), Mode::Watch) => 'W',
                (Some(_), Mode::Attack) => 'A',
            }
        };
        (1..).zip(rates).map(step).collect()
    }

    #[test]
    fn up_at_once_and_down_after_a_while() {
        let guard = Guard { calm_after: Duration::from_secs(3), ..Guard::default() };
        for (rates, expected) in [
            (&[1, 4, 1][..], "..."),
            (&[5, 10, 10], "WA."),
            (&[20, 0, 0, 0, 0], "A..C."),
            (&[20, 6, 6, 6, 6, 6], "A..W.."),
            // It comes again: the patience begins anew.
            (&[20, 0, 0, 20, 0, 0, 0], "A.....C"),
            (&[6, 0, 6, 0, 0, 0], "W....C"),
        ] {
            assert_eq!(run(&guard, Setting::Auto, rates), expected, "{rates:?}");
        }
    }

    #[test]
    fn the_operator_stands_above_the_rate() {
        let (auto, off) = (Guard::default(), Guard { syn: SynGuard::Off, ..Guard::default() });
        let always = Guard { syn: SynGuard::Always, ..Guard::default() };
        assert_eq!(run(&auto, Setting::Off, &[100, 100]), "O.");
        assert_eq!(run(&off, Setting::Auto, &[100, 100]), "O.");
        assert_eq!(run(&off, Setting::Attack, &[0, 0]), "A.");
        assert_eq!(run(&always, Setting::Auto, &[0, 0]), "A.");
        assert_eq!(run(&always, Setting::Off, &[0, 0]), "O.");
    }
}

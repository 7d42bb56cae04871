//! When a backend goes up and when down. Pure: results in, changes out.

use weir_balance::Health;
use weir_model::ActiveCheck;

/// Counts results in a row. The first result of a backend that nobody knows decides at once, so
/// that a start finds the dead ones after one interval; from then on `rise` and `fall` damp.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    health: Health,
    rise: u32,
    fall: u32,
    /// Results in a row that speak against the present health.
    against: u32,
}

impl Machine {
    /// A machine that starts from what is known.
    #[must_use]
    pub fn new(check: &ActiveCheck, health: Health) -> Self {
        Self { health, rise: check.rise, fall: check.fall, against: 0 }
    }

    /// Takes the result of a probe; answers the new health if it changed.
    pub fn on_result(&mut self, up: bool) -> Option<Health> {
        let (result, needed) = if up { (Health::Up, self.rise) } else { (Health::Down, self.fall) };
        if result == self.health {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.health != Health::Unknown && self.against < needed {
            return None;
        }
        self.against = 0;
        self.health = result;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_model::CheckKind;

    use super::*;

    /// `+` is a good probe, `-` a bad one; the answer has `U` or `D` where the health changes.
    fn run(rise: u32, fall: u32, start: Health, probes: &str) -> String {
        let second = Duration::from_secs(1);
        let check = ActiveCheck {
            kind: CheckKind::Tcp,
            vip: None,
            interval: second,
            timeout: second,
            rise,
            fall,
        };
        let mut machine = Machine::new(&check, start);
        let change = |probe| match machine.on_result(probe == '+') {
            Some(Health::Up) => 'U',
            Some(Health::Down) => 'D',
            Some(Health::Unknown) => '?',
            None => '.',
        };
        probes.chars().map(change).collect()
    }

    #[test]
    fn rises_and_falls() {
        for (rise, fall, start, probes, expected) in [
            (2, 3, Health::Unknown, "+", "U"),
            (2, 3, Health::Unknown, "-", "D"),
            (2, 3, Health::Up, "---", "..D"),
            (2, 3, Health::Up, "--+---", ".....D"),
            (2, 3, Health::Down, "++", ".U"),
            (2, 3, Health::Down, "+-++", "...U"),
            (1, 1, Health::Up, "-+-+", "DUDU"),
            (2, 3, Health::Unknown, "+---++", "U..D.U"),
        ] {
            assert_eq!(run(rise, fall, start, probes), expected, "{probes} from {start:?}");
        }
    }
}

//! A cell: what becomes of a /24, or of a run of addresses in it, in one word.

use super::layout::FIRST_RECORD;

/// A decision, or where it is found. Three bits of kind, 29 of place; clean is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Cell(pub u32);

/// What a [`Cell`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No ban.
    Clean,
    /// Dropped; counted in this record.
    Ban(u32),
    /// Would be dropped; counted in this record.
    DryRun(u32),
    /// A ban would drop it, but the allow list rules. The record is the ban's.
    Allowed(u32),
    /// One run of addresses of a /24 has a decision: the place of its span, in pairs of words.
    Span(u32),
    /// A /24 cut into runs: the line of its block.
    Block(u32),
    /// One address of a /24, by its last byte, is dropped; counted in this record, which is one of the
    /// first [`Cell::HOST_RECORDS_MAX`].
    Host(u32, u32),
}

const PLACE_BITS: u32 = 29;
/// Bits of a record in a cell that also has an address's last byte.
const HOST_SHIFT: u32 = PLACE_BITS - 8;
const HOST_MASK: u32 = (1 << HOST_SHIFT) - 1;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

impl Cell {
    /// No ban.
    pub const CLEAN: Self = Self(0);
    /// The first place that a cell cannot name.
    pub const PLACES_MAX: u32 = 1 << PLACE_BITS;

    /// Records behind the arena's first that [`Kind::Host`] can name.
    pub const HOST_RECORDS_MAX: u32 = 1 << HOST_SHIFT;

    /// The word for `kind`. A place at or above [`Cell::PLACES_MAX`] is cut off.
    #[inline(always)]
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        let (tag, place) = match kind {
            Kind::Clean => (0, 0),
            Kind::Ban(record) => (1, record),
            Kind::DryRun(record) => (2, record),
            Kind::Allowed(record) => (3, record),
            Kind::Span(pair) => (4, pair),
            Kind::Block(line) => (5, line),
            Kind::Host(last, record) => {
                (6, last << HOST_SHIFT | record.wrapping_sub(FIRST_RECORD) & HOST_MASK)
            }
        };
        Self(tag << PLACE_BITS | place & PLACE_MASK)
    }

    /// What the word says; what nobody writes is clean.
    #[inline(always)]
    #[must_use]
    pub const fn kind(self) -> Kind {
        let place = self.0 & PLACE_MASK;
        match self.0 >> PLACE_BITS {
            1 => Kind::Ban(place),
            2 => Kind::DryRun(place),
            3 => Kind::Allowed(place),
            4 => Kind::Span(place),
            5 => Kind::Block(place),
            6 => Kind::Host(place >> HOST_SHIFT, FIRST_RECORD + (place & HOST_MASK)),
            _ => Kind::Clean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_was_written() {
        for kind in [
            Kind::Clean,
            Kind::Ban(0),
            Kind::DryRun(7),
            Kind::Allowed(Cell::PLACES_MAX - 1),
            Kind::Span(1),
            Kind::Block(1 << 20),
            Kind::Host(255, FIRST_RECORD + Cell::HOST_RECORDS_MAX - 1),
            Kind::Host(0, FIRST_RECORD),
        ] {
            assert_eq!(Cell::new(kind).kind(), kind);
        }
        assert_eq!(Cell(7 << 29 | 5).kind(), Kind::Clean);
    }
}

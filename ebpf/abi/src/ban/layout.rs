//! Where things lie in the maps.

/// Changes whenever the meaning of a map changes: maps pinned by another layout are not taken over.
pub const LAYOUT: u32 = 1;

/// Tables that may exist at a time: the one in force and the one being built.
pub const SLOTS: u32 = 2;

/// Words (u32) of a line, the unit in which the arena is read: 64 bytes, as a cache line.
pub const LINE_WORDS: u32 = 16;
/// Words of the root: one a /16, at the arena's beginning.
pub const ROOT_WORDS: u32 = 1 << 16;
/// Lines of an arena that holds nothing but the root.
pub const LINES_MIN: u32 = ROOT_WORDS / LINE_WORDS;
/// Lines of a page: 256 cells.
pub const PAGE_LINES: u32 = 256 / LINE_WORDS;

/// Words of a block that mark, a bit an address, where a run begins; bit 0 is always set.
pub const STARTS_WORDS: u32 = 8;
/// The word of a block that says at which word of the arena its cells begin, one a run.
pub const BLOCK_RUN_WORD: u32 = 8;

/// Records are counted in half lines; one of IPv6 has a whole line.
pub const HALF_LINE_WORDS: u32 = 8;
/// Words 0–1 of a record are its packets, 2–3 its bytes; then the Unix time of the last, seconds.
pub const SEEN_WORD: u32 = 4;
/// The word of a record with the prefix's length.
pub const LENGTH_WORD: u32 = 5;
/// Set in that word where the record is of IPv6.
pub const RECORD6_FLAG: u32 = 1 << 8;
/// The word of a record with an IPv4 prefix's address.
pub const ADDRESS_WORD: u32 = 6;
/// The first of four words, most significant first, with an IPv6 prefix's address.
pub const PREFIX6_WORD: u32 = 8;

/// Words (u64) of the marks of IPv4: one a /17, see [`marks_for`].
pub const MARKS: u32 = 1 << 17;
/// Bits of the sieve behind the marks, see [`sieve_bits`].
pub const SIEVE_BITS: u32 = 1 << 24;
/// Words (u64) of the sieve.
pub const SIEVE_WORDS: u32 = SIEVE_BITS / 64;
/// Bits of the filter of hashed /32s of IPv6.
pub const FILTER_BITS: u32 = 1 << 20;
/// Words (u64) of the filter of IPv6.
pub const FILTER_WORDS: u32 = FILTER_BITS / 64;
/// The first record of an arena, in half lines: behind the root and a line with their numbers.
pub const FIRST_RECORD: u32 = (LINES_MIN + 1) * 2;

/// Prefix lengths of IPv6 that can be in use.
pub const LENGTHS_MAX: usize = 128;

/// The switches of the program, one for all.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct State {
    /// The slot in force, 0 or 1.
    pub slot: u32,
    /// Unix time, seconds; written by user space twice a second.
    pub now: u32,
    /// Not 0: nothing is dropped for a ban, but counted as if.
    pub dry_run: u32,
    /// Not 0: drops are told as events.
    pub watched: u32,
    /// The [`LAYOUT`] that the maps are written in.
    pub layout: u32,
    /// By slot: the line of the first of all pages where they lie in a row, so that no root is asked.
    pub pages: [u32; SLOTS as usize],
    /// How many tables were put in force; tells hits of one from those of another.
    pub generation: u32,
    /// By slot.
    pub lengths: [Lengths; SLOTS as usize],
    /// Keeps the marks at a multiple of a cache line.
    pub unused: [u32; 4],
}

/// What user space shares with the program besides the arenas: one look-up for a clean packet.
#[repr(C)]
pub struct Shared {
    /// The switches.
    pub state: State,
    /// The marks of IPv4. Of all slots: a table that is being built adds to them, and what only the
    /// one before needed is taken out when it has gone.
    pub marks: [u64; MARKS as usize],
    /// The sieve of IPv4, likewise.
    pub sieve: [u64; SIEVE_WORDS as usize],
    /// The filter of IPv6, likewise.
    pub filter: [u64; FILTER_WORDS as usize],
}

/// The prefix lengths of IPv6 in use.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Lengths {
    /// How many.
    pub count: u32,
    /// Not 0: there are allowed prefixes, so the search goes on behind a ban.
    pub allowed: u32,
    /// Longest first.
    pub lengths: [u8; LENGTHS_MAX],
}

/// A prefix of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Key6 {
    /// 0–128.
    pub length: u32,
    /// In network order, host bits zero.
    pub address: [u8; 16],
}

/// A sampled packet that was dropped, or would have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// The source, in network order; IPv4 as a mapped address.
    pub source: [u64; 2],
    /// Bytes of the packet.
    pub size: u32,
    /// Length of the banned prefix around the source: 0–32 for IPv4, 0–128 for IPv6.
    pub length: u8,
    /// `Verdict::index`.
    pub verdict: u8,
    /// 4 or 6.
    pub family: u8,
    /// Keeps the size a multiple of eight.
    pub unused: u8,
}

impl Event {
    /// Reads an event as the kernel wrote it; `None` if the bytes are too few.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let part = |at: usize| bytes.get(at..at + 8)?.try_into().ok();
        let word = |at| part(at).map(u64::from_ne_bytes);
        let source = [word(8)?, word(16)?];
        let size = u32::from_ne_bytes(bytes.get(24..28)?.try_into().ok()?);
        let &[length, verdict, family, unused] = bytes.get(28..32)? else { return None };
        let time = word(0)?;
        Some(Self { time, source, size, length, verdict, family, unused })
    }
}

/// What a CPU counted for a record and has not added to it yet: an addition that others cannot
/// disturb costs more than all the search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// The record.
    pub record: u32,
    /// [`State::generation`] of its table; of another, the entry counts nothing.
    pub generation: u32,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last one came, Unix time in seconds.
    pub seen: u32,
    /// Keeps the size a multiple of eight.
    pub unused: u32,
}

impl Pending {
    /// Nothing counted.
    pub const NONE: Self =
        Self { record: 0, generation: 0, packets: 0, bytes: 0, seen: 0, unused: 0 };
}

/// Entries that a CPU has; a record's is the one of its number's last bits.
pub const PENDING: u32 = 1_024;

/// How many events a CPU told, and how many it could not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventMeter {
    /// The second that `told` counts.
    pub second: u32,
    /// Events told in it.
    pub told: u32,
    /// Packets that were not told: more than the rate allows.
    pub limited: u64,
    /// Packets that were not told: the ring was full.
    pub overflowed: u64,
}

/// The word of marks for an address, and the two bits of it that are both set if it is banned: one
/// says that something is banned in its /22, one is of a hash of the address.
#[inline(always)]
#[must_use]
pub const fn marks_for(address: u32) -> (u32, u32, u32) {
    (address >> 15, address >> 10 & 31, 32 + (address.wrapping_mul(0x9E37_79B1) >> 27))
}

/// The two bits of the sieve for an address, in one cache line: one of them is set if it is banned.
/// The first is of its hash, the second of its /24's.
#[inline(always)]
#[must_use]
pub const fn sieve_bits(address: u32) -> (u32, u32) {
    let hash24 = (address >> 8).wrapping_mul(0xC2B2_AE35);
    let line = hash24 >> 17 << 9;
    (line + (address.wrapping_mul(0x85EB_CA6B) >> 23), line + (hash24 >> 8 & 0x1ff))
}

/// The bit of the IPv6 filter for an address's first 32 bits.
#[inline(always)]
#[must_use]
pub const fn filter_bit(first: u32) -> u32 {
    first.wrapping_mul(0x9E37_79B1) >> 12
}

/// The first word of a span: its first and last address in the /24.
#[inline(always)]
#[must_use]
pub const fn span_word(first: u8, last: u8) -> u32 {
    first as u32 | (last as u32) << 8
}

/// First and last address of a span, from its first word.
#[inline(always)]
#[must_use]
pub const fn span_bounds(word: u32) -> (u32, u32) {
    (word & 0xff, word >> 8 & 0xff)
}

//! SYN cookies for sockets of this host, made as its kernel would make them, so that it knows them when
//! they come back. Most by the raw helper; now and then one by way of the socket, which must have had a
//! cookie made within two minutes to believe in any.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::helpers::generated::{
    bpf_tcp_gen_syncookie, bpf_tcp_raw_gen_syncookie_ipv4, bpf_tcp_raw_gen_syncookie_ipv6,
};
use weir_abi::guard::{ECN, State, Switch, TIMES};
use weir_abi::wire::{IPV4_SIZE_MIN, IPV6_SIZE, V4};
use weir_abi::{Bytes, Drop, End, Packet, Reply, Verdict};

use super::answer::turned;
use super::maps;
use super::socket;
use super::tcp::{HEADER_SIZE, Header};
use crate::frame::Frame;
use crate::vip::exported;
use crate::vip::way::Notes;

/// Jiffies between two cookies of a CPU by way of the socket: a quarter of a second to two and a half.
const STAMP_INTERVAL: u64 = 256;
/// What Linux begins with, nearly.
const WINDOW: u32 = 65_160;
const FIN: u8 = 1;
const RST: u8 = 4;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
const SYN_ACK: u32 = 0x12;
/// With the largest segment alone, and with everything.
const SHORT: u32 = 24;
const LONG: u32 = 40;
/// Bits of the time in which the kernel keeps what the client offered.
const TIME_MASK: u32 = 63;
const TIME_SACK: u32 = 1 << 4;
const TIME_ECN: u32 = 1 << 5;
const NANOSECONDS_A_MILLISECOND: u64 = 1_000_000;

exported! {
    /// Answers a SYN with a cookie.
    weir_cookie, Notes, cookie
}

#[inline(always)]
fn cookie(frame: &Frame, notes: &Notes) -> Result<End, End> {
    const ODD: End = End::dropped(Drop::OddSyn);
    let (flow, way) = (&notes.flow, &notes.way);
    let (network, transport) = (way.network, way.transport);
    let (Some(counter), Some(state)) = (maps::counter(way.vip), maps::state()) else {
        return Ok(End::GO_ON);
    };
    if maps::is_on(Switch::TryAll) {
        maps::count_tried(Verdict::Reply(Reply::SynCookie));
        return Ok(End::GO_ON);
    }
    let is_v4 = flow.family == V4;
    let ip_size = if is_v4 { IPV4_SIZE_MIN } else { IPV6_SIZE } as u32;
    if transport != network + ip_size {
        return Err(ODD);
    }
    let start = frame.span::<14>(transport as usize).ok_or(ODD)?;
    let (size, flags) = (u32::from(start.u8::<12>() >> 4) * 4, start.u8::<13>());
    let header = Header::load(frame, transport, size).ok_or(ODD)?;
    if flags & (FIN | RST) != 0 {
        return Err(ODD);
    }
    let now = maps::jiffies();
    let is_stale = now.wrapping_sub(counter.stamped) > STAMP_INTERVAL;
    match look(frame, notes, header, size, is_stale) {
        Listening::Stamped => counter.stamped = now,
        Listening::Yes => {}
        // A connection that ends or exists, nobody who listens, or a queue that is full: the kernel knows
        // what to say.
        Listening::No => return Ok(End::GO_ON),
    }
    let number = by_itself(frame, notes, header, size).ok_or(ODD)?;
    if number < 0 {
        return Err(ODD);
    }
    header.read_options(size);
    let answer = Answer::new(state, header, flags, number as u32, is_v4);
    let written = match network {
        14 => answer.write::<14>(frame, is_v4),
        18 => answer.write::<18>(frame, is_v4),
        _ => answer.write::<22>(frame, is_v4),
    };
    if written.is_some() { Ok(End::of(Verdict::Reply(Reply::SynCookie))) } else { Err(ODD) }
}

/// A cookie of the kernel; negative if it makes none.
#[inline(always)]
fn by_itself(frame: &Frame, notes: &Notes, header: &mut Header, size: u32) -> Option<i64> {
    let network = notes.way.network as usize;
    Some(if notes.flow.family == V4 {
        let ip = frame.span::<20>(network)?.pointer();
        // SAFETY: a helper that reads 20 bytes of one and `size` of the other, which are there.
        unsafe { bpf_tcp_raw_gen_syncookie_ipv4(ip, header.pointer(), size) }
    } else {
        let ip = frame.span::<40>(network)?.pointer();
        // SAFETY: as above, 40 bytes.
        unsafe { bpf_tcp_raw_gen_syncookie_ipv6(ip, header.pointer(), size) }
    })
}

/// What there is for a SYN.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listening {
    No,
    Yes,
    /// And it has noted that it had a cookie made.
    Stamped,
}

/// Looks whether a socket listens, and has it note that it had a cookie made if it is time to.
#[inline(always)]
fn look(frame: &Frame, notes: &Notes, header: &mut Header, size: u32, stamp: bool) -> Listening {
    let (network, is_v4) = (notes.way.network as usize, notes.flow.family == V4);
    let ip = if is_v4 {
        frame.span::<20>(network).map(|ip| ip.pointer::<c_void>())
    } else {
        frame.span::<40>(network).map(|ip| ip.pointer::<c_void>())
    };
    let Some(ip) = ip else { return Listening::No };
    let found = socket::with(frame, &notes.flow, |socket| {
        // SAFETY: it is there while this runs.
        if unsafe { (*socket).state } != socket::LISTEN {
            return Listening::No;
        }
        if !stamp {
            return Listening::Yes;
        }
        // SAFETY: a helper that reads 20 or 40 bytes of one and `size` of the other, which are there.
        let number = unsafe {
            if is_v4 {
                bpf_tcp_gen_syncookie(socket.cast(), ip, 20, header.pointer(), size)
            } else {
                bpf_tcp_gen_syncookie(socket.cast(), ip, 40, header.pointer(), size)
            }
        };
        if number < 0 { Listening::No } else { Listening::Stamped }
    });
    found.unwrap_or(Listening::No)
}

/// What the answer says. Words are numbers in network order.
struct Answer {
    number: u32,
    size: u32,
    flags: u32,
    segment: u32,
    /// SACK, then the kinds of both times; our time; the client's; scale.
    options: [u32; 4],
}

impl Answer {
    #[inline(always)]
    fn new(state: &State, header: &Header, flags: u8, number: u32, is_v4: bool) -> Self {
        let segment = 0x0204_0000 | state.mss[usize::from(!is_v4)] & 0xffff;
        if header.has_time() == 0 || state.offers & TIMES == 0 {
            // Without a time there is no room for what else the client offered.
            return Self { number, size: SHORT, flags: SYN_ACK, segment, options: [0; 4] };
        }
        let has_ecn = state.offers & ECN != 0 && flags & (ECE | CWR) == ECE | CWR;
        let (scale, has_sack) = (header.scale(), header.has_sack() != 0);
        // SAFETY: a helper without arguments.
        let now = (unsafe { bpf_ktime_get_coarse_ns() } / NANOSECONDS_A_MILLISECOND) as u32;
        let offered = scale & 15 | if has_sack { TIME_SACK } else { 0 };
        let offered = offered | if has_ecn { TIME_ECN } else { 0 };
        let time = now & !TIME_MASK | offered;
        // Not ahead of the clock, or the client would drop what follows.
        let time = if time.wrapping_sub(now) as i32 > 0 { time.wrapping_sub(64) } else { time };
        let scale = if scale == Header::NO_SCALE {
            0x0101_0101
        } else {
            0x0103_0300 | state.window_scale & 15
        };
        let first = if has_sack { 0x0402_080a } else { 0x0101_080a };
        let options = [first, time, u32::from_be(header.time()), scale];
        let flags = SYN_ACK | if has_ecn { u32::from(ECE) } else { 0 };
        Self { number, size: LONG, flags, segment, options }
    }

    /// Turns the packet into the answer.
    #[inline(always)]
    fn write<const NETWORK: usize>(&self, frame: &Frame, is_v4: bool) -> Option<()> {
        let (at, sum) = turned::<NETWORK>(frame, is_v4, self.size)?;
        let tcp = frame.span::<24>(at)?;
        let (ports, theirs) = (tcp.u32::<0>(), tcp.u32::<4>());
        let ports = ports.rotate_left(16);
        let flags = self.size << 26 | self.flags << 16 | WINDOW;
        let theirs = theirs.wrapping_add(1);
        let sum = sum.add(ports).add(self.number).add(theirs).add(flags).add(self.segment);
        let [a, b, c, d] = self.options;
        let sum = sum.add(a).add(b).add(c).add(d);
        tcp.put_u32::<0>(ports);
        tcp.put_u32::<4>(self.number);
        tcp.put_u32::<8>(theirs);
        tcp.put_u32::<12>(flags);
        tcp.put_u32::<16>(u32::from(sum.checksum()) << 16);
        tcp.put_u32::<20>(self.segment);
        if self.size == LONG {
            let options = frame.span::<16>(at + SHORT as usize)?;
            options.put_u32::<0>(a);
            options.put_u32::<4>(b);
            options.put_u32::<8>(c);
            options.put_u32::<12>(d);
        }
        Some(())
    }
}

const _: () = assert!(HEADER_SIZE + 4 == SHORT);

//! What is decided of a packet on its way to a backend. Handed to functions that the verifier looks at
//! by themselves.

use weir_abi::vip::{Drops, Entry, HashBy, NOWHERE, VipCounter, flow_hash, source_hash};
use weir_abi::wire::PROTOCOL_TCP;
use weir_abi::{Address, Bytes, Flow, Packet};

use super::maps;
use crate::frame::Frame;

const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;
const TCP_FLAGS: usize = 13;

/// What this CPU knows of the packet in hand.
#[repr(C)]
pub struct Notes {
    /// Who talks to whom.
    pub flow: Flow,
    /// Where it goes.
    pub way: Way,
    /// Its end if it is for nobody here.
    pub pass: u64,
}

/// Where a packet goes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Way {
    /// The VIP's number.
    pub vip: u32,
    /// The number of its table of slots.
    pub table: u32,
    /// How the VIP is served, as [`Entry::how`]; [`RETURN`] where a backend answers.
    pub how: u32,
    /// The backend's number.
    pub backend: u32,
    /// Of the flow.
    pub hash: u32,
    /// Where the network header is.
    pub network: u32,
    /// Where the transport header is.
    pub transport: u32,
    /// Bytes of the packet as it came.
    pub size: u32,
    /// 4 or 6.
    pub family: u8,
    /// As IP numbers it.
    pub protocol: u8,
    /// Whether a TCP connection begins here.
    pub is_new: bool,
    /// Whether its slot is moving.
    pub is_moving: bool,
    /// The VIP's port, where a backend answers; 0 without ports.
    pub port: u32,
    /// The VIP's address, likewise.
    pub address: Address,
}

impl Way {
    /// The way of a packet for a VIP, before a backend is chosen.
    #[inline(always)]
    pub fn begin(&mut self, frame: &Frame, flow: &Flow, entry: &Entry) {
        let ports = u32::from(flow.source_port) << 16 | u32::from(flow.destination_port);
        self.hash = if entry.how >> 8 & 0xff == HashBy::Source as u32 {
            source_hash(flow.source)
        } else {
            flow_hash(flow.source, flow.destination, ports, flow.protocol)
        };
        self.vip = entry.vip;
        self.table = entry.table;
        self.how = entry.how;
        self.backend = NOWHERE.into();
        self.network = flow.network.into();
        self.transport = flow.transport.into();
        self.size = frame.length() as u32;
        self.family = flow.family;
        self.protocol = flow.protocol;
        self.is_new = flow.protocol == PROTOCOL_TCP && is_syn(frame, flow.transport);
        self.is_moving = false;
    }

    /// Counts a packet that goes to the backend.
    #[inline(always)]
    pub fn count(&self) {
        let (size, new, moving) =
            (u64::from(self.size), u64::from(self.is_new), u64::from(self.is_moving));
        if let Some(counter) = maps::vip_counter(self.vip) {
            counter.packets += 1;
            counter.bytes += size;
            counter.flows += new;
            counter.moving += moving;
        }
        if let Some(counter) = maps::backend_counter(self.backend) {
            counter.packets += 1;
            counter.bytes += size;
            counter.flows += new;
            counter.moving += moving;
        }
    }

    /// Counts one that does not.
    #[inline(always)]
    pub fn count_drop(&self, why: Drops) {
        if let Some(VipCounter { packets, bytes, drops, .. }) = maps::vip_counter(self.vip) {
            *packets += 1;
            *bytes += u64::from(self.size);
            drops[why as usize] += 1;
        }
    }
}

#[inline(always)]
fn is_syn(frame: &Frame, transport: u16) -> bool {
    let header = frame.span::<{ TCP_FLAGS + 1 }>(transport.into());
    let flags = header.map_or(0, |header| header.u8::<TCP_FLAGS>());
    flags & (TCP_SYN | TCP_ACK) == TCP_SYN
}

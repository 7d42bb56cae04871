//! Listeners serve addresses that they are not bound to: the program of `ebpf/sock` on the network
//! namespace of this process.

use std::fs::File;
use std::net::IpAddr;

use aya::maps::{Array, MapData, SockMap};
use aya::programs::SkLookup;
use aya::{Ebpf, EbpfLoader, Pod};
use weir_abi::sock::{AF_INET, AF_INET6, RULES_MAX, Rule};
use weir_model::Also;

use crate::Error;
use crate::select::Group;
use crate::tables::missing;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-lookup.o"));

const ATTEMPT: &str = "serve the addresses that listeners have in `also`";

/// A configuration has no more than there is room for.
const _: () = assert!(Also::MAX <= RULES_MAX as usize);

/// The attached program. Dropping it detaches it.
pub struct Lookup {
    _ebpf: Ebpf,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct RuleValue(Rule);

// SAFETY: four u64 and four u32 in a repr(C) struct: no padding, and any bytes are a value.
unsafe impl Pod for RuleValue {}

impl Lookup {
    /// Has these groups of sockets serve what stands with them, the narrowest prefix first. Another one that
    /// is attached should be dropped afterwards: there may be several, so that nothing goes unserved.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(mut served: Vec<(Also, Group)>) -> Result<Self, Error> {
        served.sort_by_key(|(also, _)| std::cmp::Reverse(also.cidr.length()));
        let error = |error: &(dyn std::error::Error + 'static)| Error::of(ATTEMPT, error);
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|cause| error(&cause))?;
        let rules = ebpf.map_mut("RULES").ok_or_else(|| missing("RULES"))?;
        let mut rules =
            Array::<&mut MapData, RuleValue>::try_from(rules).map_err(|it| error(&it))?;
        for (index, (also, _)) in (0..).zip(&served) {
            rules.set(index, RuleValue(rule(also)), 0).map_err(|cause| error(&cause))?;
        }
        let sockets = ebpf.map_mut("SOCKETS").ok_or_else(|| missing("SOCKETS"))?;
        let mut sockets = SockMap::<&mut MapData>::try_from(sockets).map_err(|it| error(&it))?;
        for (index, (_, (_, group))) in (0..).zip(&served) {
            let socket = group.first().ok_or_else(|| missing("SOCKETS"))?;
            sockets.set(index, socket, 0).map_err(|cause| error(&cause))?;
        }
        let program = ebpf.program_mut("weir_lookup").ok_or_else(|| missing("weir_lookup"))?;
        let program: &mut SkLookup = program.try_into().map_err(|cause| {
            let cause: aya::programs::ProgramError = cause;
            error(&cause)
        })?;
        program.load().map_err(|cause| error(&cause))?;
        let here = File::open("/proc/thread-self/ns/net").map_err(|cause| error(&cause))?;
        program.attach(here).map_err(|cause| error(&cause))?;
        Ok(Self { _ebpf: ebpf })
    }
}

fn rule(also: &Also) -> Rule {
    let length = u32::from(also.cidr.length());
    let (family, address, mask) = match also.cidr.address() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            (AF_INET, u128::from(u32::from(address)), u128::from(mask))
        }
        IpAddr::V6(address) => {
            (AF_INET6, u128::from(address), u128::MAX.checked_shl(128 - length).unwrap_or(0))
        }
    };
    let (first, last) = (also.first_port.get(), also.last_port.get());
    Rule {
        high: (address >> 64) as u64,
        low: address as u64,
        mask_high: (mask >> 64) as u64,
        mask_low: mask as u64,
        family,
        first_port: first.into(),
        last_port: last.into(),
        unused: 0,
    }
}

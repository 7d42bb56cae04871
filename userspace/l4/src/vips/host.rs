//! What this host must bring along: a way to ask for routes, its address towards a backend, neighbours
//! that are known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use weir_model::Cidr;

/// The port of the discard protocol: whoever listens there throws away what comes.
const DISCARD: u16 = 9;

/// Lets the packet path ask the kernel for routes: it asks as `lo` would, which therefore must be allowed
/// to forward. Nothing else goes by that interface.
pub(crate) fn allow_routes() {
    for path in ["/proc/sys/net/ipv4/conf/lo/forwarding", "/proc/sys/net/ipv6/conf/lo/forwarding"] {
        let is_on = std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1");
        if !is_on && let Err(error) = std::fs::write(path, "1") {
            tracing::warn!("write 1 to {path}: {error}; packets for VIPs may find no route");
        }
    }
}

/// Where encapsulated packets to a backend say they come from, and how many of its last bits the flow
/// decides on.
pub(crate) fn source(backend: SocketAddr, sources: &[Cidr]) -> (IpAddr, u32) {
    let own = sources.iter().find(|it| it.address().is_ipv4() == backend.is_ipv4());
    match own {
        Some(cidr) => {
            let bits = if backend.is_ipv4() { 32 } else { 128 };
            let spread = bits - u32::from(cidr.length()).min(bits);
            (cidr.address(), u32::try_from((1u64 << spread.min(32)) - 1).unwrap_or(u32::MAX))
        }
        None => (towards(backend), 0),
    }
}

/// This host's address towards a backend; the unspecified one where there is no route.
fn towards(backend: SocketAddr) -> IpAddr {
    let any: IpAddr =
        if backend.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(backend)?;
        socket.local_addr()
    });
    socket.map_or(any, |address| address.ip())
}

/// The addresses of this host that others can send to.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|it| it.address);
    let ip = |it: nix::sys::socket::SockaddrStorage| {
        let four = it.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        four.or_else(|| it.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    };
    let is_of_one_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut found: Vec<_> =
        all.filter_map(ip).filter(|ip| !ip.is_loopback() && !is_of_one_link(ip)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Has the kernel find out who the next one on the way to a backend is: the packet path knows only
/// neighbours that are known.
pub(crate) fn wake(backend: IpAddr) {
    let any: IpAddr = match backend {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // An empty datagram; whether it arrives does not matter.
    let _ = UdpSocket::bind((any, 0)).and_then(|socket| socket.send_to(&[], (backend, DISCARD)));
}

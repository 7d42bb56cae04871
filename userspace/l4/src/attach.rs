//! The program on network interfaces: in the driver where it can, taken over where it runs already.

use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use weir_model::KernelMode;

use crate::error::innermost;
use crate::pins::Pins;
use crate::{AttachMode, Attached, Error};

/// Attaches to every interface, or to none; what was attached is told. Links that are not asked for
/// any more are removed.
pub(crate) fn attach(
    program: &mut Xdp,
    settings: &weir_model::Kernel,
    pins: Option<&Pins>,
) -> Result<Vec<Attached>, Error> {
    let mut attached = Vec::new();
    let before = pins.map(Pins::links).unwrap_or_default();
    for name in &settings.interfaces {
        match attach_one(program, name, settings.mode, pins) {
            Ok(mode) => attached.push(Attached { name: name.clone(), mode }),
            Err(error) => {
                // What this call pinned would stay behind.
                let now = pins.map(Pins::links).unwrap_or_default();
                let fresh = now.iter().filter(|link| !before.contains(link));
                fresh.for_each(|link| drop(std::fs::remove_file(link)));
                return Err(error);
            }
        }
    }
    if let Some(pins) = pins {
        let asked: Vec<_> =
            attached.iter().filter_map(|on| Some(pins.link(on.mode, index(&on.name)?))).collect();
        for link in before.iter().filter(|link| !asked.contains(link)) {
            tracing::info!("XDP detached: {} is not asked for any more", link.display());
            let _ = std::fs::remove_file(link);
        }
    }
    Ok(attached)
}

fn attach_one(
    program: &mut Xdp,
    name: &str,
    mode: KernelMode,
    pins: Option<&Pins>,
) -> Result<AttachMode, Error> {
    let Some(index) = index(name) else {
        let known = nix::net::if_::if_nameindex().map_or(String::new(), |known| {
            let names = known.iter().map(|known| known.name().to_string_lossy().into_owned());
            names.collect::<Vec<_>>().join(", ")
        });
        return Err(Error::NoInterface { name: name.to_owned(), known });
    };
    if let Some(mode) = pins.and_then(|pins| take_over(program, pins, mode, index)) {
        return Ok(mode);
    }
    if mode != KernelMode::Generic {
        match attach_new(program, name, index, AttachMode::Driver, pins) {
            Ok(()) => return Ok(AttachMode::Driver),
            Err(error) if would_fail_again(&error) => return Err(attach_error(name, &error)),
            // It has no XDP, or wants a smaller MTU or fewer queues.
            Err(error) if mode == KernelMode::Driver => {
                let cause = innermost(&error);
                return Err(Error::NoDriverMode { name: name.to_owned(), cause });
            }
            Err(error) => {
                let cause = innermost(&error);
                tracing::info!("XDP on {name}: its driver refuses ({cause}); trying generic");
            }
        }
    }
    match attach_new(program, name, index, AttachMode::Generic, pins) {
        Ok(()) => Ok(AttachMode::Generic),
        Err(error) => Err(attach_error(name, &error)),
    }
}

/// Replaces the program of a link that another process left: no packet passes unseen.
fn take_over(program: &mut Xdp, pins: &Pins, mode: KernelMode, index: u32) -> Option<AttachMode> {
    for found in [AttachMode::Driver, AttachMode::Generic] {
        let path = pins.link(found, index);
        if !path.exists() {
            continue;
        }
        let is_wanted = match mode {
            KernelMode::Driver => found == AttachMode::Driver,
            KernelMode::Generic => found == AttachMode::Generic,
            KernelMode::Auto | KernelMode::Off => true,
        };
        if is_wanted && replace(program, &path).is_ok() {
            return Some(found);
        }
        // Of another mode, or of an interface that is gone.
        let _ = std::fs::remove_file(&path);
    }
    None
}

fn replace(program: &mut Xdp, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let link = FdLink::from(PinnedLink::from_pin(path)?);
    program.attach_to_link(XdpLink::try_from(link)?)?;
    Ok(())
}

fn attach_new(
    program: &mut Xdp,
    name: &str,
    index: u32,
    mode: AttachMode,
    pins: Option<&Pins>,
) -> Result<(), ProgramError> {
    let flags = match mode {
        AttachMode::Driver => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let link = program.attach(name, flags)?;
    let Some(pins) = pins else { return Ok(()) };
    let link = program.take_link(link)?;
    match FdLink::try_from(link) {
        Ok(link) => match link.pin(pins.link(mode, index)) {
            // The pin holds it from now on.
            Ok(pinned) => drop(pinned),
            Err(error) => {
                return Err(ProgramError::IOError(std::io::Error::other(error.to_string())));
            }
        },
        // An old kernel's way to attach, which cannot be pinned and would end with the link.
        Err(_) => {
            program.attach(name, flags)?;
        }
    }
    Ok(())
}

fn index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Whether generic mode would meet the same error.
fn would_fail_again(error: &ProgramError) -> bool {
    [libc::EBUSY, libc::EEXIST, libc::EPERM].into_iter().any(|errno| is_errno(error, errno))
}

fn attach_error(name: &str, error: &ProgramError) -> Error {
    if is_errno(error, libc::EBUSY) || is_errno(error, libc::EEXIST) {
        return Error::Occupied { name: name.to_owned() };
    }
    Error::of(format!("attach XDP to {name}"), error)
}

fn is_errno(error: &ProgramError, errno: i32) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            return io.raw_os_error() == Some(errno);
        }
        source = current.source();
    }
    false
}

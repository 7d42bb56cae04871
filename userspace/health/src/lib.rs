//! Probes backends.

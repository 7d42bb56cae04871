//! The reactors.

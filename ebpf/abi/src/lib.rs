//! Types, limits, verdicts, reasons and header parsing shared by kernel, user space and tests.
#![no_std]

//! Finds the eBPF toolchain and compiles the kernel programs.

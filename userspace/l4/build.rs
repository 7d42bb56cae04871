//! Compiles the XDP program, to be embedded in the binary.

#[cfg(feature = "kernel")]
fn main() {
    let folder = std::env::var_os("OUT_DIR").map(std::path::PathBuf::from).unwrap_or_default();
    for source in weir_toolchain::SOURCES {
        println!("cargo::rerun-if-changed={}", weir_toolchain::root().join(source).display());
    }
    let compiled =
        weir_toolchain::find().and_then(|toolchain| weir_toolchain::compile(&toolchain, &folder));
    if let Err(error) = compiled {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

#[cfg(not(feature = "kernel"))]
fn main() {}

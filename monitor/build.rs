//! Embeds the kernel object that `cargo xtask build` leaves in `target/bpf`. Without it the crate
//! still builds (for `cargo check`, clippy and unit tests), and the program says what is missing.
//! With the feature `kernel-log` it is the one that says in words what it does.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("streamwatch.bpf.o");
    let name = match env::var_os("CARGO_FEATURE_KERNEL_LOG") {
        Some(_) => "streamwatch-log.bpf.o",
        None => "streamwatch.bpf.o",
    };
    let object = manifest.join("../target/bpf").join(name);
    println!("cargo::rerun-if-changed={}", object.display());
    match fs::read(&object) {
        Ok(bytes) => fs::write(&out, bytes).expect("OUT_DIR is writable"),
        Err(_) => fs::write(&out, []).expect("OUT_DIR is writable"),
    }
}

//! The laboratory of the lab contract: four network namespaces, the test certificates, the product between them, and the
//! peers that play against it. Used by `gatehouse-lab` (`make lab`) and by the end-to-end tests.

pub mod peers;
pub mod phones;
pub mod pki;
pub mod product;
pub mod topology;

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// Root of the checkout, where `Cargo.toml` of the workspace lies.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Where the laboratory keeps logs, pid files and the product's state.
#[must_use]
pub fn state() -> PathBuf {
    root().join("target/lab")
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started, or says no; the message holds what it printed.
pub fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{program} {}: {}",
        arguments.join(" "),
        said.trim()
    )))
}

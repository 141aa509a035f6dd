//! Whole builds, with a small static program in the place of each of ours: two are equal, what does not belong is refused,
//! and the disk starts through UEFI firmware and boot loader.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may fail loudly, its helpers too.

use std::path::{Path, PathBuf};

use image_builder::assemble::{Inputs, build, verify_reproducible};
use image_builder::process::{command, is_installed, output};
use image_builder::qemu::{self, Config, Options};
use image_builder::{contents, kernel};

/// A folder with everything that a build takes in.
struct Bench {
    folder: tempfile::TempDir,
    inputs: Inputs,
}

impl Bench {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        let workspace = folder.path().join("workspace");
        std::fs::create_dir_all(&programs).unwrap();
        std::fs::create_dir_all(workspace.join("all")).unwrap();
        let mut manifest = "[package]\nname = \"all\"\n".to_owned();
        for name in contents::program_names() {
            std::fs::copy(
                env!("CARGO_BIN_EXE_gatehouse-kernel-probe"),
                programs.join(name),
            )
            .unwrap();
            manifest.push_str(&format!("[[bin]]\nname = \"{name}\"\n"));
        }
        std::fs::write(
            workspace.join("Cargo.toml"),
            "[workspace]\nmembers = [\"all\"]\n",
        )
        .unwrap();
        std::fs::write(
            workspace.join("Cargo.lock"),
            "[[package]]\nname = \"all\"\nversion = \"0.1.0\"\n",
        )
        .unwrap();
        std::fs::write(workspace.join("all/Cargo.toml"), manifest).unwrap();
        let kernel = kernel::find().unwrap().unwrap_or_else(|| {
            // Any bytes do where nothing is started.
            let path = folder.path().join("kernel");
            std::fs::write(&path, vec![0x5a; 1 << 20]).unwrap();
            path
        });
        let inputs = Inputs {
            programs,
            kernel,
            workspace,
            locked: false,
        };
        Self { folder, inputs }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("image")
    }
}

#[test]
fn two_builds_in_two_folders_give_the_same_bytes() {
    let bench = Bench::make();
    let names = verify_reproducible(&bench.inputs, &bench.out()).unwrap();
    for name in [
        "bzImage",
        "cmdline",
        "gatehouse.efi",
        "gatehouse.qcow2",
        "gatehouse.raw",
        "gatehouse.raw.zst",
        "gatehouse.vhdx",
        "gatehouse.vmdk",
        "initrd.zst",
        "sbom.cdx.json",
        "sha256sums",
    ] {
        assert!(names.iter().any(|is| is == name), "{name} in {names:?}");
    }
    assert_eq!(names.len(), 11, "{names:?}");
    assert!(!bench.out().exists());
}

#[test]
fn a_build_that_is_refused_leaves_the_earlier_image_in_place() {
    let bench = Bench::make();
    std::fs::create_dir_all(bench.out()).unwrap();
    std::fs::write(bench.out().join("earlier"), "image").unwrap();
    std::fs::write(bench.inputs.programs.join("gatehouse-sbc"), "#!/bin/sh\n").unwrap();
    let text = build(&bench.inputs, &bench.out()).unwrap_err().to_string();
    assert!(text.contains("gatehouse-sbc"), "{text}");
    assert!(bench.out().join("earlier").exists());
}

#[test]
fn a_program_that_is_lacking_ends_the_build() {
    let bench = Bench::make();
    std::fs::remove_file(bench.inputs.programs.join("gatehouse-journal")).unwrap();
    let text = build(&bench.inputs, &bench.out()).unwrap_err().to_string();
    assert!(text.contains("gatehouse-journal"), "{text}");
}

#[test]
fn no_program_that_is_shipped_holds_a_path_of_the_machine_that_built_it() {
    // The name of the folder is always there, the programs only once they are built: `make check` comes before.
    let complete = std::env::var_os("GH_COMPLETE").is_some();
    let folder = std::env::var_os("GH_BIN")
        .map(PathBuf::from)
        .filter(|folder| complete || folder.join("gatehouse-sbc").exists());
    let Some(folder) = folder else {
        assert!(!complete, "GH_BIN is not set");
        println!("left to `make qemu`: GH_BIN names no release build");
        return;
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // What lies in the builder's home, by its full path. Not `/home/` alone: constants stand side by side in a program, and
    // the escape suite tries `/home` and `/etc/passwd`; for the same reason no name that the root folder has too.
    let home = std::env::home_dir().filter(|home| home.parent().is_some());
    let own = home.iter().filter_map(|home| std::fs::read_dir(home).ok());
    let own = own.flatten().map(|entry| entry.unwrap());
    let own = own.filter(|entry| !Path::new("/").join(entry.file_name()).exists());
    let mut homes: Vec<String> = own
        .map(|entry| entry.path().to_str().unwrap().to_owned())
        .collect();
    homes.extend(["/.cargo/", "/.rustup/", workspace.to_str().unwrap()].map(str::to_owned));
    for name in contents::program_names() {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        for home in &homes {
            let at = bytes
                .windows(home.len())
                .position(|window| window == home.as_bytes());
            let around = at.map(|at| {
                let text = bytes.get(at..bytes.len().min(at + 120)).unwrap_or_default();
                String::from_utf8_lossy(text).into_owned()
            });
            assert_eq!(around, None, "{name}");
        }
    }
}

#[test]
fn the_disk_starts_through_firmware_and_boot_loader() {
    let ready = kernel::find().unwrap().is_some()
        && is_installed("qemu-system-x86_64")
        && Path::new(qemu::FIRMWARE).exists();
    if !ready {
        let lacking = "needs the kernel (gatehouse-image kernel), qemu-system-x86 and ovmf";
        // `make check` comes before the kernel is built; `make qemu`, behind it, must not pass without this test.
        assert!(std::env::var_os("GH_COMPLETE").is_none(), "{lacking}");
        println!("left to `make qemu`: {lacking}");
        return;
    }
    let bench = Bench::make();
    build(&bench.inputs, &bench.out()).unwrap();
    let options = Options {
        image: bench.out(),
        direct: false,
        config: Config::Wizard,
        secrets: None,
        state: bench.folder.path().join("state"),
        fresh: true,
        user_network: true,
    };
    qemu::prepare(&options, false).unwrap();
    let machine = qemu::machine(&options, false);
    let mut limited = command("timeout");
    limited.arg("300").arg(machine.get_program());
    // Forwarded ports may be taken on the machine that tests; this start needs none.
    let words: Vec<String> = machine
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    limited.args(
        words
            .iter()
            .map(|word| word.split(",hostfwd=").next().unwrap()),
    );
    let text = String::from_utf8_lossy(&output(&mut limited).unwrap()).into_owned();
    for line in [
        "PROBE disk ext4: ok",
        "PROBE files vfat: EFI loader",
        "PROBE nft: ",
        "PROBE done: yes",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

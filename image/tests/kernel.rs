//! Boots the appliance's kernel in QEMU with `gatehouse-kernel-probe` as first process, the disk of a build and an ISO
//! beside it, and compares its answers with what the design asks of the kernel.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may fail loudly, its helpers too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image_builder::process::{command, is_installed, output, run};
use image_builder::tree::{Origin, Tree};
use image_builder::{contents, cpio, disk, kernel};

#[test]
fn the_running_kernel_is_what_the_fragment_promises() {
    let lacking = match kernel::find().unwrap() {
        None => "the kernel is not built yet (gatehouse-image kernel)",
        Some(_) if !is_installed("qemu-system-x86_64") => "no qemu-system-x86_64",
        Some(bzimage) => return compare(&bzimage),
    };
    // `make check` comes before the kernel is built; `make qemu`, behind it, must not pass without this test.
    assert!(std::env::var_os("GH_COMPLETE").is_none(), "{lacking}");
    println!("left to `make qemu`: {lacking}");
}

fn compare(bzimage: &Path) {
    let answers = boot(bzimage);
    for (key, must) in expected() {
        let is = answers
            .get(key)
            .unwrap_or_else(|| panic!("no answer to {key}: {answers:#?}"));
        assert_eq!(is, must, "{key}");
    }
    let absent: Vec<_> = answers
        .iter()
        .filter(|(key, _)| key.starts_with("call "))
        .collect();
    assert_eq!(absent.len(), 16);
    assert!(absent.iter().all(|(_, is)| *is == "absent"), "{absent:#?}");
    for name in ["ext4", "vfat", "iso9660", "erofs", "tmpfs", "cgroup2"] {
        assert!(
            answers["filesystems"].split(' ').any(|is| is == name),
            "{name}: {}",
            answers["filesystems"]
        );
    }
    let landlock: u32 = answers["landlock"].parse().unwrap();
    assert!(landlock >= 6, "Landlock ABI {landlock}");
    assert!(
        answers["release"].ends_with("-gatehouse"),
        "{}",
        answers["release"]
    );
    assert!(
        answers["seccomp"].contains("kill_process"),
        "{}",
        answers["seccomp"]
    );
    assert!(answers["lsm"].contains("landlock"), "{}", answers["lsm"]);
}

fn expected() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("done", "yes"),
        ("mount-cgroup2", "ok"),
        ("controllers", "cpu memory pids"),
        ("lockdown", "none integrity [confidentiality]"),
        ("config", "answer = 42"),
        ("cards", "eth0 eth1 eth2 lo"),
        ("exists /dev/mem", "false"),
        ("exists /dev/port", "false"),
        ("exists /dev/kmem", "false"),
        ("exists /dev/ptmx", "false"),
        ("exists /dev/net", "false"),
        ("exists /proc/kcore", "false"),
        ("exists /proc/modules", "false"),
        ("exists /proc/config.gz", "false"),
        ("exists /dev/watchdog0", "true"),
        ("exists /dev/rtc0", "true"),
        ("exists /dev/ttyS0", "true"),
        ("exists /dev/tty1", "true"),
        ("namespace user", "EINVAL: Invalid argument"),
        ("namespace pid", "ok"),
        ("namespace mount", "ok"),
        ("namespace uts", "ok"),
        ("namespace ipc", "ok"),
        ("namespace cgroup", "ok"),
        ("nft", "ok"),
        ("script-written", "true"),
        // ENOEXEC: the kernel does not know the interpreter line.
        ("script", "Some(8)"),
        ("disk vfat", "ok"),
        ("files vfat", "EFI loader"),
        ("disk ext4", "ok"),
        ("files ext4", "lost+found"),
        ("disk iso9660", "ok"),
        ("files iso9660", "gatehouse.toml"),
    ])
}

fn boot(bzimage: &Path) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("initrd"), initrd()).unwrap();
    std::fs::write(path("config"), "answer = 42\n").unwrap();
    let raw = disk::make(folder.path(), b"loader", b"system").unwrap();
    let iso = iso(folder.path());
    let mut machine = command("timeout");
    machine.args([
        "120",
        "qemu-system-x86_64",
        "-machine",
        "q35",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "256",
    ]);
    machine.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-device",
        "i6300esb",
    ]);
    machine
        .arg("-kernel")
        .arg(bzimage)
        .arg("-initrd")
        .arg(path("initrd"));
    machine.args([
        "-append",
        "console=ttyS0 quiet panic=-1 lockdown=confidentiality",
        "-no-reboot",
    ]);
    machine.arg("-fw_cfg").arg(format!(
        "name=opt/org.gatehouse/config,file={}",
        path("config").display()
    ));
    for file in [&raw, &iso] {
        machine
            .arg("-drive")
            .arg(format!("if=virtio,format=raw,file={}", file.display()));
    }
    for card in ["virtio-net-pci", "e1000e", "vmxnet3"] {
        machine.args(["-device", card]);
    }
    let text = output(&mut machine).unwrap();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("PROBE ")?.split_once(": "))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The probe as first process, with nft and a ruleset that uses what the firewall uses.
fn initrd() -> Vec<u8> {
    let mut tree = Tree::default();
    tree.file(
        "/init",
        0o755,
        std::fs::read(env!("CARGO_BIN_EXE_gatehouse-kernel-probe")).unwrap(),
        Origin::Builder,
    );
    tree.file(
        "/etc/probe.nft",
        0o644,
        include_bytes!("probe.nft").to_vec(),
        Origin::Builder,
    );
    for (path, bytes, origin) in contents::nft().unwrap() {
        tree.file(&path, 0o755, bytes, origin);
    }
    for path in ["/data", "/dev", "/proc", "/sys", "/tmp"] {
        tree.folder(path, 0o755);
    }
    cpio::pack(&tree)
}

/// A configuration disk as operators make it.
fn iso(folder: &Path) -> PathBuf {
    let iso = folder.join("config.iso");
    std::fs::write(folder.join("gatehouse.toml"), "answer = 42\n").unwrap();
    run(command("xorriso")
        .args([
            "-as",
            "mkisofs",
            "-quiet",
            "-V",
            "GATEHOUSE-CFG",
            "-J",
            "-r",
            "-o",
        ])
        .arg(&iso)
        .arg(folder.join("gatehouse.toml")))
    .unwrap();
    iso
}

//! The initial file system as the kernel unpacks it: cpio "newc" (kernel documentation, `buffer-format`).
//! Written here and not by the `cpio` program so that nothing of the build host can show: entries come in the tree's
//! order, owner is 0:0, inode numbers count up, every time is the epoch.

use crate::process::EPOCH;
use crate::tree::{Node, Tree};

/// Packs the tree; parents stand before their children because the tree is sorted by path.
pub fn pack(tree: &Tree) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut inode = 1u32;
    for (path, node) in tree.entries() {
        let (mode, body): (u32, &[u8]) = match node {
            Node::Folder { mode } => (0o040_000 | mode, &[]),
            Node::File { mode, bytes, .. } => (0o100_000 | mode, bytes),
            Node::Link { target } => (0o120_777, target.as_bytes()),
        };
        entry(
            &mut archive,
            inode,
            mode,
            path.trim_start_matches('/'),
            body,
        );
        inode = inode.saturating_add(1);
    }
    entry(&mut archive, 0, 0, "TRAILER!!!", &[]);
    archive
}

fn entry(archive: &mut Vec<u8>, inode: u32, mode: u32, name: &str, body: &[u8]) {
    let links: u64 = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
    let time = if mode == 0 { 0 } else { EPOCH };
    let fields: [u64; 13] = [
        inode.into(),
        mode.into(),
        0,
        0,
        links,
        time,
        body.len() as u64,
        0,
        0,
        0,
        0,
        name.len() as u64 + 1,
        0,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(body);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Origin;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.folder("/data", 0o700);
        tree.file(
            "/usr/bin/program",
            0o755,
            b"\x7fELF odd length".to_vec(),
            Origin::Builder,
        );
        tree.link("/init", "usr/bin/program");
        tree
    }

    #[test]
    fn the_archive_is_read_back_by_cpio_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("cpio")
            .args(["-i", "--quiet", "-t", "-v"])
            .env("LC_ALL", "C")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&pack(&sample()))
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<String> = listing
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                format!("{} {}", words[0], words[8..].join(" "))
            })
            .collect();
        assert_eq!(
            lines,
            [
                "drwx------ data",
                "lrwxrwxrwx init -> usr/bin/program",
                "drwxr-xr-x usr",
                "drwxr-xr-x usr/bin",
                "-rwxr-xr-x usr/bin/program"
            ]
        );
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes_in_whatever_order_it_was_filled() {
        let mut other = Tree::default();
        other.link("/init", "usr/bin/program");
        other.file(
            "/usr/bin/program",
            0o755,
            b"\x7fELF odd length".to_vec(),
            Origin::Builder,
        );
        other.folder("/data", 0o700);
        assert_eq!(pack(&sample()), pack(&other));
    }
}

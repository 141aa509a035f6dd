//! The file tree of the appliance, in memory: path, mode, bytes, and where each file came from.
//! Filled by [`crate::contents`], judged by [`Tree::judge`], packed by [`crate::cpio`], listed by [`crate::sbom`].

use std::collections::{BTreeMap, BTreeSet};

use crate::elf;

/// Where a file came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Compiled from this workspace; the name of its program.
    Workspace(String),
    /// Taken from a Debian package of the build host.
    Debian {
        /// Binary package.
        package: String,
        /// Its version.
        version: String,
    },
    /// Written by the image builder itself.
    Builder,
}

/// One entry. Owner and group are always 0; there is no set-uid bit to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Content.
        bytes: Vec<u8>,
        /// Where it came from.
        origin: Origin,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
}

/// The tree, sorted by path; paths are absolute and have no trailing slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Node>);

/// Programs that would let someone inside the box run what we did not ship. Matched against the file's name, also with a
/// version behind it (`python3.11`, `lua5.4`). `nft` is the one program of Debian's and takes its own rule language only.
const INTERPRETERS: [&str; 42] = [
    "apk", "apt", "apt-get", "ash", "awk", "bash", "bpftrace", "busybox", "csh", "dash", "dpkg",
    "ed", "expect", "fish", "gawk", "gdb", "guile", "java", "ksh", "ld.gold", "lua", "luajit",
    "mawk", "mksh", "nc", "node", "opkg", "perl", "php", "pip", "python", "qjs", "rpm", "ruby",
    "sed", "sh", "socat", "tclsh", "tcsh", "toybox", "vi", "zsh",
];

impl Tree {
    /// Adds a folder, and its parents as far as they are missing.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.0.insert(path.to_owned(), Node::Folder { mode });
    }

    /// Adds a file and its parents.
    pub fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>, origin: Origin) {
        self.parents(path);
        self.0.insert(
            path.to_owned(),
            Node::File {
                mode,
                bytes,
                origin,
            },
        );
    }

    /// Adds a symbolic link and its parents.
    pub fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.0.insert(
            path.to_owned(),
            Node::Link {
                target: target.to_owned(),
            },
        );
    }

    /// All entries, parents before children.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// One entry.
    pub fn entry(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// The golden list's lines for this tree: kind and permission bits, path.
    pub fn listing(&self) -> Vec<String> {
        self.entries()
            .map(|(path, node)| match node {
                Node::Folder { mode } => format!("d{mode:03o} {path}"),
                Node::File { mode, .. } => format!("f{mode:03o} {path}"),
                Node::Link { target } => format!("l--- {path} -> {target}"),
            })
            .collect()
    }

    /// Everything that is wrong with the tree: differences to the golden list, scripts, set-uid bits, files that others
    /// may write, shells and interpreters. Empty is good.
    pub fn judge(&self, golden: &str) -> Vec<String> {
        let is: BTreeSet<String> = self.listing().into_iter().collect();
        let must: BTreeSet<String> = golden_lines(golden).map(str::to_owned).collect();
        let extra = is
            .difference(&must)
            .map(|line| format!("not in the golden list: {line}"));
        let lacking = must
            .difference(&is)
            .map(|line| format!("lacking from the tree: {line}"));
        let mut faults: Vec<String> = extra.chain(lacking).collect();
        for (path, node) in self.entries() {
            faults.extend(fault(path, node).map(|why| format!("{path}: {why}")));
        }
        faults
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/').skip(1) {
            if let Some(parent) = path.get(..at) {
                self.0
                    .entry(parent.to_owned())
                    .or_insert(Node::Folder { mode: 0o755 });
            }
        }
    }
}

/// The lines of the golden list without remarks.
pub fn golden_lines(golden: &str) -> impl Iterator<Item = &str> {
    golden
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn fault(path: &str, node: &Node) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let plain = name
        .trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.' || letter == '-');
    if INTERPRETERS.contains(&name) || INTERPRETERS.contains(&plain) {
        return Some(
            "a shell, interpreter or package manager has no place in the image".to_owned(),
        );
    }
    match node {
        Node::Folder { mode } | Node::File { mode, .. }
            if mode & 0o7000 != 0 && *mode != 0o1777 =>
        {
            Some(format!(
                "mode {mode:o} has a set-uid, set-gid or sticky bit"
            ))
        }
        Node::File { mode, .. } if mode & 0o022 != 0 => {
            Some(format!("mode {mode:o} lets others write"))
        }
        Node::File { bytes, .. } if bytes.starts_with(b"#!") => Some("a script".to_owned()),
        Node::File { mode, bytes, .. } if mode & 0o111 != 0 && !elf::is_elf(bytes) => {
            Some("executable, but not an ELF program".to_owned())
        }
        Node::File { .. } | Node::Folder { .. } | Node::Link { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(path: &str, mode: u32, bytes: &[u8]) -> Vec<String> {
        let mut tree = Tree::default();
        tree.file(path, mode, bytes.to_vec(), Origin::Builder);
        let golden = tree.listing().join("\n");
        tree.judge(&golden)
    }

    #[test]
    fn a_plain_program_is_accepted() {
        assert_eq!(
            judged("/usr/sbin/nft", 0o755, b"\x7fELF"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_script_is_refused() {
        assert_eq!(
            judged("/etc/start", 0o644, b"#!/bin/true"),
            ["/etc/start: a script"]
        );
    }

    #[test]
    fn a_set_uid_file_is_refused() {
        assert!(judged("/usr/bin/su", 0o4755, b"\x7fELF")[0].contains("set-uid"));
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        assert!(judged("/etc/version", 0o666, b"1")[0].contains("others write"));
    }

    #[test]
    fn shells_and_interpreters_are_refused_with_and_without_version() {
        for name in [
            "sh",
            "bash",
            "busybox",
            "python3.11",
            "python3",
            "perl5.36.0",
            "lua5.4",
            "dpkg",
        ] {
            assert_eq!(
                judged(&format!("/usr/bin/{name}"), 0o755, b"\x7fELF").len(),
                1,
                "{name}"
            );
        }
    }

    #[test]
    fn a_link_named_like_a_shell_is_refused() {
        let mut tree = Tree::default();
        tree.link("/bin/sh", "../usr/sbin/nft");
        assert_eq!(tree.judge(&tree.listing().join("\n")).len(), 1);
    }

    #[test]
    fn a_file_beside_the_golden_list_and_one_lacking_are_both_named() {
        let mut tree = Tree::default();
        tree.folder("/proc", 0o755);
        let faults = tree.judge("# remark\n\nd755 /sys\n");
        assert_eq!(
            faults,
            [
                "not in the golden list: d755 /proc",
                "lacking from the tree: d755 /sys"
            ]
        );
    }

    #[test]
    fn parents_come_by_themselves_and_keep_a_mode_given_before() {
        let mut tree = Tree::default();
        tree.folder("/data", 0o700);
        tree.file("/data/a/b", 0o600, Vec::new(), Origin::Builder);
        assert_eq!(
            tree.listing(),
            ["d700 /data", "d755 /data/a", "f600 /data/a/b"]
        );
    }
}

//! The house holds its own rules: who imports whom, which licences come in, what the top level holds, and that the lints
//! which keep the pure cores pure really bite (a canary commits each offence and must go red).

// Tests fail loudly.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use e2e::lab::root;
use serde_json::Value;

/// Who may import which crates of ours (house style §2).
const ARROWS: [(&str, &[&str]); 12] = [
    ("sbc-sip", &[]),
    ("sbc-media", &[]),
    ("broker-proto", &[]),
    ("appliance-config", &[]),
    ("sandbox", &[]),
    // What decides about a call and what explains the decision are one: the sbc and `gatehouse-config route`.
    ("routing", &["broker-proto"]),
    (
        "sbc-core",
        &["sbc-sip", "sbc-media", "broker-proto", "routing"],
    ),
    (
        "firewall",
        &["broker-proto", "sandbox", "appliance-config", "routing"],
    ),
    (
        "sbc",
        &[
            "sbc-core",
            "sbc-media",
            "sbc-sip",
            "broker-proto",
            "sandbox",
        ],
    ),
    (
        "appliance",
        &["broker-proto", "sandbox", "appliance-config"],
    ),
    ("image-builder", &["appliance-config"]),
    (
        "e2e",
        &[
            "appliance",
            "appliance-config",
            "broker-proto",
            "firewall",
            "image-builder",
            "routing",
            "sandbox",
            "sbc",
            "sbc-core",
            "sbc-media",
            "sbc-sip",
        ],
    ),
];

/// Licences that may come in with a dependency (an SPDX expression needs one alternative made of these alone).
const LICENCES: [&str; 15] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MPL-2.0",
    "Zlib",
    "Unicode-3.0",
    "OpenSSL",
    "CDLA-Permissive-2.0",
    "0BSD",
    "BSL-1.0",
    "CC0-1.0",
];

fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn nobody_imports_whom_he_may_not() {
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    assert_eq!(
        names,
        arrows.keys().copied().collect(),
        "the table of arrows names the crates of the workspace"
    );
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            if !names.contains(to) {
                continue;
            }
            let allowed = arrows[name].contains(&to);
            assert!(
                allowed,
                "{name} imports {to} ({})",
                dependency["kind"].as_str().unwrap_or("normal")
            );
        }
    }
}

#[test]
fn the_firewall_never_imports_the_session_border_controller() {
    let metadata = metadata(&["--no-deps"]);
    for package in metadata["packages"].as_array().unwrap() {
        if package["name"] == "firewall" {
            let names = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|dependency| dependency["name"].as_str().unwrap());
            assert_eq!(names.filter(|name| name.starts_with("sbc")).count(), 0);
        }
    }
}

#[test]
fn every_dependency_has_a_licence_that_may_come_in() {
    let metadata = metadata(&[]);
    let mut refused = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        if package["source"].is_null() {
            continue;
        }
        let expression = package["license"].as_str().unwrap_or("none");
        if !is_permitted(expression) {
            refused.push(format!(
                "{} {}: {expression}",
                package["name"], package["version"]
            ));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Whether one alternative of an SPDX expression consists of permitted licences. Brackets occur only around alternatives.
fn is_permitted(expression: &str) -> bool {
    expression
        .split(") AND")
        .flat_map(|part| part.split("AND ("))
        .all(|conjunct| {
            conjunct
                .replace(['(', ')'], "")
                .replace('/', " OR ")
                .split(" OR ")
                .any(|alternative| {
                    alternative
                        .split(" AND ")
                        .all(|licence| LICENCES.contains(&licence.trim()))
                })
        })
}

#[test]
fn a_licence_that_may_not_come_in_is_seen() {
    for good in [
        "MIT OR Apache-2.0",
        "MIT/Apache-2.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "ISC AND (Apache-2.0 OR ISC)",
    ] {
        assert!(is_permitted(good), "{good}");
    }
    for bad in [
        "GPL-3.0-only",
        "AGPL-3.0",
        "none",
        "MIT AND GPL-2.0",
        "(MIT OR Apache-2.0) AND GPL-2.0",
    ] {
        assert!(!is_permitted(bad), "{bad}");
    }
}

#[test]
fn the_top_level_holds_the_agreed_names_only() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "Makefile",
        "README.md",
        "appliance",
        "firewall",
        "image",
        "sbc",
        "tests",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || agreed.contains(&name.as_str()),
            "{name} has no place at the top level"
        );
    }
}

#[test]
fn unsafe_code_lives_in_one_room() {
    let metadata = metadata(&["--no-deps"]);
    for package in metadata["packages"].as_array().unwrap() {
        let manifest = fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} does not take the workspace's lints",
            package["name"]
        );
    }
}

/// The five pure crates, each with rules of its own, because clippy reads only the nearest file.
const PURE: [&str; 5] = [
    "sbc/sip",
    "sbc/media",
    "sbc/core",
    "firewall/broker-proto",
    "appliance/routing",
];

#[test]
fn the_pure_crates_forbid_what_would_make_them_impure() {
    let first = fs::read_to_string(root().join(PURE[0]).join(".clippy.toml")).unwrap();
    for folder in PURE {
        let rules = fs::read_to_string(root().join(folder).join(".clippy.toml")).unwrap();
        assert_eq!(rules, first, "{folder} has the same rules");
        let library = fs::read_to_string(root().join(folder).join("src/lib.rs")).unwrap();
        let flat: String = library.split_whitespace().collect();
        assert!(
            flat.contains("forbid(clippy::disallowed_methods,clippy::disallowed_types,clippy::disallowed_macros"),
            "{folder}/src/lib.rs does not forbid"
        );
    }
}

#[test]
fn the_canary_goes_red_for_each_offence() {
    let rules = fs::read_to_string(root().join(PURE[0]).join(".clippy.toml")).unwrap();
    let paths: Vec<&str> = rules
        .split("{ path = \"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(paths.len() > 20, "the rules were not understood");
    let folder = tempfile::tempdir().unwrap();
    let mut source = String::from(
        "#![forbid(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]\n#![allow(unused)]\n",
    );
    for (number, path) in paths.iter().enumerate() {
        source.push_str(&offence(number, path));
    }
    write(folder.path(), "src/lib.rs", &source);
    write(
        folder.path(),
        "Cargo.toml",
        "[package]\nname = \"canary\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    write(folder.path(), ".clippy.toml", &rules);
    let output = Command::new(env!("CARGO"))
        .args(["clippy", "--offline", "--message-format", "short"])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "the canary passed:\n{said}");
    for path in paths {
        assert!(
            said.contains(&format!("`{path}`")),
            "no complaint about {path} in\n{said}"
        );
    }
}

/// A line that commits the offence.
fn offence(number: usize, path: &str) -> String {
    let last = path.rsplit("::").next().unwrap();
    match path {
        "std::collections::HashMap" => format!("type O{number} = {path}<u8, u8>;\n"),
        "std::collections::HashSet" => format!("type O{number} = {path}<u8>;\n"),
        "std::net::ToSocketAddrs" => format!("fn o{number}<T: {path}>(_: T) {{}}\n"),
        _ if path.split("::").count() == 2 => format!("fn o{number}() {{ {path}!(\"\"); }}\n"),
        _ if last.starts_with(|first: char| first.is_ascii_uppercase()) => {
            format!("type O{number} = {path};\n")
        }
        "std::thread::spawn" => format!("fn o{number}() {{ {path}(|| ()); }}\n"),
        "std::thread::sleep" => {
            format!("fn o{number}() {{ {path}(std::time::Duration::ZERO); }}\n")
        }
        "std::time::Instant::elapsed" => {
            format!("fn o{number}(now: std::time::Instant) {{ {path}(&now); }}\n")
        }
        "std::fs::write" => format!("fn o{number}() {{ let _ = {path}(\"\", \"\"); }}\n"),
        "std::time::Instant::now" | "std::env::args" => format!("fn o{number}() {{ {path}(); }}\n"),
        _ => format!("fn o{number}() {{ let _ = {path}(\"\"); }}\n"),
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

//! The bill of materials beside the image, CycloneDX 1.5: each file with its hash and what it is made of, each crate with
//! the checksum of `Cargo.lock`, each Debian package with its version, the kernel source. Called by [`crate::assemble`].
//!
//! Crates come from `Cargo.lock` alone, so the list needs no network and is the same everywhere. Of the workspace's own
//! packages only the normal dependencies count; of foreign crates the lock file does not tell build-time and other
//! systems' dependencies from the rest, so the list may name a crate too many, never one too few.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tree::{Node, Origin, Tree};
use crate::{Error, Result, kernel, read};

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Debug, Clone, Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    package: Named,
    #[serde(default)]
    dependencies: BTreeMap<String, Value>,
    #[serde(default)]
    bin: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Root {
    workspace: Members,
}

#[derive(Debug, Deserialize)]
struct Members {
    members: Vec<String>,
}

/// Writes the bill. `workspace` is the folder with `Cargo.lock`.
pub fn bill(tree: &Tree, workspace: &Path, kernel_image: &[u8]) -> Result<Vec<u8>> {
    let crates = Crates::read(workspace)?;
    let source = kernel::Source::pinned()?;
    let kernel_reference = format!("pkg:deb/debian/{}@{}", source.package, source.version);
    let mut components: BTreeMap<String, Value> = BTreeMap::new();
    let mut depends: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();

    components.insert(
        kernel_reference.clone(),
        json!({"type": "operating-system", "bom-ref": kernel_reference, "name": "linux", "version": source.upstream(),
               "purl": format!("{kernel_reference}?arch=source"),
               "hashes": [{"alg": "SHA-256", "content": source.sha256}]}),
    );
    add_file(&mut components, "boot:bzImage", kernel_image);
    depends.insert(
        "boot:bzImage".to_owned(),
        BTreeSet::from([kernel_reference]),
    );

    for (path, node) in tree.entries() {
        let Node::File { bytes, origin, .. } = node else {
            continue;
        };
        let reference = format!("file:{path}");
        add_file(&mut components, &reference, bytes);
        let from = match origin {
            Origin::Builder => BTreeSet::new(),
            Origin::Debian { package, version } => {
                let purl = format!("pkg:deb/debian/{package}@{version}?arch=amd64");
                components.insert(
                    purl.clone(),
                    json!({"type": "library", "bom-ref": purl, "name": package, "version": version, "purl": purl}),
                );
                BTreeSet::from([purl])
            }
            Origin::Workspace(program) => {
                let mut used = BTreeSet::new();
                for package in crates.behind(program)? {
                    used.insert(package.purl());
                    components.insert(package.purl(), package.component());
                }
                used
            }
        };
        depends.insert(reference, from);
    }
    let dependencies: Vec<Value> = depends
        .into_iter()
        .map(|(reference, on)| json!({"ref": reference, "dependsOn": on}))
        .collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "firmware", "name": "gatehouse", "version": env!("CARGO_PKG_VERSION")}},
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies,
    });
    let mut text = serde_json::to_vec_pretty(&document)
        .map_err(|error| Error::malformed("the bill of materials", error))?;
    text.push(b'\n');
    Ok(text)
}

fn add_file(components: &mut BTreeMap<String, Value>, reference: &str, bytes: &[u8]) {
    let name = reference
        .split_once(':')
        .map_or(reference, |(_, name)| name);
    let sum = kernel::hex(&Sha256::digest(bytes));
    components.insert(
        reference.to_owned(),
        json!({"type": "file", "bom-ref": reference, "name": name, "hashes": [{"alg": "SHA-256", "content": sum}]}),
    );
}

impl Package {
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }

    fn component(&self) -> Value {
        let mut component = json!({"type": "library", "bom-ref": self.purl(), "name": self.name,
                                   "version": self.version, "purl": self.purl()});
        if let (Some(sum), Some(fields)) = (&self.checksum, component.as_object_mut()) {
            fields.insert(
                "hashes".to_owned(),
                json!([{"alg": "SHA-256", "content": sum}]),
            );
        }
        component
    }
}

/// The lock file and the workspace's manifests.
struct Crates {
    packages: Vec<Package>,
    /// Of each workspace package: its normal dependencies.
    normal: BTreeMap<String, BTreeSet<String>>,
    /// Program to workspace package.
    programs: BTreeMap<String, String>,
}

impl Crates {
    fn read(workspace: &Path) -> Result<Self> {
        let lock: Lock = parse(&workspace.join("Cargo.lock"))?;
        let root: Root = parse(&workspace.join("Cargo.toml"))?;
        let (mut normal, mut programs) = (BTreeMap::new(), BTreeMap::new());
        for member in root.workspace.members {
            let folder = workspace.join(member);
            let manifest: Manifest = parse(&folder.join("Cargo.toml"))?;
            let package = manifest.package.name;
            for program in manifest
                .bin
                .into_iter()
                .map(|bin| bin.name)
                .chain(found_programs(&folder))
            {
                programs.insert(program, package.clone());
            }
            normal.insert(package, manifest.dependencies.into_keys().collect());
        }
        Ok(Self {
            packages: lock.package,
            normal,
            programs,
        })
    }

    /// Every package that a program may be made of.
    fn behind(&self, program: &str) -> Result<Vec<&Package>> {
        let package = self.programs.get(program).ok_or_else(|| {
            Error::malformed(
                program,
                "no package of the workspace says that it builds this program",
            )
        })?;
        let mut waiting: Vec<&Package> = self
            .packages
            .iter()
            .filter(|is| &is.name == package && is.source.is_none())
            .collect();
        let mut found: BTreeMap<String, &Package> = BTreeMap::new();
        while let Some(package) = waiting.pop() {
            if found.insert(package.purl(), package).is_some() {
                continue;
            }
            let own = package
                .source
                .is_none()
                .then(|| self.normal.get(&package.name))
                .flatten();
            for dependency in &package.dependencies {
                // "name", or "name version" where the lock file holds several.
                let mut words = dependency.split(' ');
                let (name, version) = (words.next().unwrap_or_default(), words.next());
                if own.is_some_and(|normal| !normal.contains(name)) {
                    continue;
                }
                waiting.extend(self.packages.iter().filter(|is| {
                    is.name == name && version.is_none_or(|version| is.version == version)
                }));
            }
        }
        Ok(found.into_values().collect())
    }
}

/// Programs that cargo finds by their place.
fn found_programs(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.join("src/bin")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            entry
                .path()
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .collect()
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read(path)?;
    toml::from_str(&String::from_utf8_lossy(&text))
        .map_err(|error| Error::malformed(path.display(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    fn bill_of(origin: Origin) -> Result<Value> {
        let mut tree = Tree::default();
        tree.file("/x", 0o755, b"content".to_vec(), origin);
        Ok(serde_json::from_slice(&bill(&tree, workspace(), b"kernel")?).unwrap())
    }

    #[test]
    fn every_file_has_a_hash_and_an_origin() {
        let bill = bill_of(Origin::Debian {
            package: "nftables".into(),
            version: "1.0.6".into(),
        })
        .unwrap();
        let components = bill["components"].as_array().unwrap();
        let file = components
            .iter()
            .find(|component| component["bom-ref"] == "file:/x")
            .unwrap();
        assert_eq!(
            file["hashes"][0]["content"],
            kernel::hex(&Sha256::digest(b"content"))
        );
        let depends = bill["dependencies"].as_array().unwrap();
        let of_file = depends
            .iter()
            .find(|entry| entry["ref"] == "file:/x")
            .unwrap();
        assert_eq!(
            of_file["dependsOn"][0],
            "pkg:deb/debian/nftables@1.0.6?arch=amd64"
        );
    }

    #[test]
    fn a_program_names_the_crates_behind_it_and_not_those_of_the_tests() {
        let bill = bill_of(Origin::Workspace("gatehouse-image".into())).unwrap();
        let names: Vec<&str> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|component| component["name"].as_str())
            .collect();
        assert!(
            names.contains(&"sha2") && names.contains(&"serde_core"),
            "{names:?}"
        );
        assert!(!names.contains(&"tempfile"), "{names:?}");
    }

    #[test]
    fn a_program_of_no_package_is_refused() {
        assert!(bill_of(Origin::Workspace("gatehouse-unknown".into())).is_err());
    }

    #[test]
    fn every_reference_is_a_component() {
        let bill = bill_of(Origin::Workspace("gatehouse-image".into())).unwrap();
        let known: BTreeSet<&str> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|component| component["bom-ref"].as_str())
            .collect();
        for entry in bill["dependencies"].as_array().unwrap() {
            for on in entry["dependsOn"].as_array().unwrap() {
                assert!(known.contains(on.as_str().unwrap()), "{on}");
            }
        }
    }
}

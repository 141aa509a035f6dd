//! The build host's Debian packages: which one a file belongs to, in which version; the list of those we need, and the
//! versions that are pinned. Called by [`crate::contents`] for each file that is taken over, so that the SBOM can name it,
//! and by [`crate::assemble`] before a build.

use std::path::Path;

use crate::process::{command, output};
use crate::tree::Origin;
use crate::{Error, Result};

/// Packages that building, running and testing the image needs, one a line.
const PACKAGES: &str = include_str!("../packages.txt");

/// The pinned versions, `package=version`, one a line.
const LOCK: &str = include_str!("../inputs.lock");

/// The packages needed, without remarks.
pub fn packages() -> impl Iterator<Item = &'static str> {
    crate::tree::golden_lines(PACKAGES)
}

/// Package and version of an installed file.
pub fn origin(path: &Path) -> Result<Origin> {
    let name = path.to_string_lossy();
    // dpkg knows a file by the path in the package, which on a merged /usr is either of the two.
    let other = name
        .strip_prefix("/usr")
        .map_or_else(|| format!("/usr{name}"), str::to_owned);
    let found = [name.as_ref(), &other]
        .into_iter()
        .find_map(|name| output(command("dpkg-query").args(["-S", name])).ok());
    let text =
        found.ok_or_else(|| Error::malformed(&name, "belongs to no installed Debian package"))?;
    let text = String::from_utf8_lossy(&text);
    let owner = text
        .split(": ")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let version = output(command("dpkg-query").args(["-W", "-f", "${Version}", &owner]))?;
    Ok(Origin::Debian {
        package: owner.split(':').next().unwrap_or_default().to_owned(),
        version: String::from_utf8_lossy(&version).trim().to_owned(),
    })
}

/// Differences between the build host and the pinned versions, one sentence each.
pub fn differences() -> Vec<String> {
    pinned()
        .filter_map(|(package, version)| {
            difference(package, version, installed(package).as_deref())
        })
        .collect()
}

/// The pinned list as this build host would have it.
pub fn lock() -> String {
    let line = |line: &str| match line.split_once('=') {
        Some((package, _)) if !line.starts_with('#') => {
            format!("{package}={}\n", installed(package).unwrap_or_default())
        }
        Some(_) | None => format!("{line}\n"),
    };
    LOCK.lines().map(line).collect()
}

fn pinned() -> impl Iterator<Item = (&'static str, &'static str)> {
    crate::tree::golden_lines(LOCK).filter_map(|line| line.split_once('='))
}

fn difference(package: &str, pinned: &str, installed: Option<&str>) -> Option<String> {
    match installed {
        Some(version) if version == pinned => None,
        Some(version) => Some(format!("{package} is {version}, pinned is {pinned}")),
        None => Some(format!("{package} is not installed, pinned is {pinned}")),
    }
}

fn installed(package: &str) -> Option<String> {
    let text = output(command("dpkg-query").args(["-W", "-f", "${Version}", package])).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_both_names_of_a_merged_usr() {
        let by_usr = origin(Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6")).unwrap();
        let by_lib = origin(Path::new("/lib/x86_64-linux-gnu/libc.so.6")).unwrap();
        assert_eq!(by_usr, by_lib);
        assert!(
            matches!(by_usr, Origin::Debian { package, version } if package == "libc6" && !version.is_empty())
        );
    }

    #[test]
    fn another_version_and_a_lacking_package_are_both_said() {
        assert_eq!(difference("zstd", "1", Some("1")), None);
        assert_eq!(
            difference("zstd", "1", Some("2")).unwrap(),
            "zstd is 2, pinned is 1"
        );
        assert_eq!(
            difference("zstd", "1", None).unwrap(),
            "zstd is not installed, pinned is 1"
        );
    }

    #[test]
    fn every_package_in_the_image_is_pinned() {
        let names: Vec<&str> = pinned().map(|(name, _)| name).collect();
        for path in [
            "/usr/sbin/nft",
            crate::assemble::STUB,
            "/lib64/ld-linux-x86-64.so.2",
        ] {
            let Origin::Debian { package, .. } = origin(Path::new(path)).unwrap() else {
                panic!("{path}")
            };
            assert!(names.contains(&package.as_str()), "{package}");
        }
    }

    #[test]
    fn a_file_of_no_package_is_refused() {
        assert!(origin(Path::new("/nowhere/at/all")).is_err());
    }
}

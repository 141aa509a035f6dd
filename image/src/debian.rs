//! The build host's Debian packages: which one a file belongs to, in which version; and the list of those we need.
//! Called by [`crate::contents`] and [`crate::disk`] for each file that is taken over, so that the SBOM can name it.

use std::path::Path;

use crate::process::{command, output};
use crate::tree::Origin;
use crate::{Error, Result};

/// Packages that building, running and testing the image needs, one a line.
const PACKAGES: &str = include_str!("../packages.txt");

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
    fn a_file_of_no_package_is_refused() {
        assert!(origin(Path::new("/nowhere/at/all")).is_err());
    }
}

//! `gatehouse-image`: builds the appliance's disk image, checks that two builds are equal, starts it in QEMU.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use image_builder::assemble::{self, Inputs};
use image_builder::{Error, Result, config_disk, debian, kernel, qemu, uki};

const USAGE: &str = "\
gatehouse-image deps                          packages of the build host, one a line
gatehouse-image lock                          inputs.lock as this build host would have it
gatehouse-image kernel                        builds the kernel, or finds it in the cache; prints its path
gatehouse-image build [options]               builds the image
gatehouse-image verify-reproducible [options] builds it twice and compares all files
gatehouse-image show FILE.efi                 lists the sections of an EFI file
gatehouse-image config-disk FILE ISO          a configuration as a labelled disk, for setup without the wizard
gatehouse-image run [options]                 starts the image in QEMU
options of build and verify-reproducible:
  --bin-dir FOLDER    static release programs (target/x86_64-unknown-linux-gnu/release)
  --out FOLDER        where the image goes (target/image)
  --kernel FILE       a bzImage instead of the own kernel
  --workspace FOLDER  folder with Cargo.lock (.)
  --locked            refuse a build host whose packages are not those of inputs.lock
options of run:
  --image FOLDER      a finished build (target/image)
  --config FILE       configuration for the guest; without it the demonstration
  --secrets FOLDER    one file for each secret that goes with the configuration
  --wizard            no configuration: the setup wizard comes up
  --direct            without firmware and boot loader
  --state FOLDER      the guest's disk and firmware settings (target/run)
  --fresh             begins with an empty disk
  --user              user networking even where the laboratory's namespaces exist
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatehouse-image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let (verb, rest) = arguments
        .split_first()
        .ok_or_else(|| Error::Usage(USAGE.to_owned()))?;
    match verb.as_str() {
        "deps" => {
            debian::packages().for_each(|package| println!("{package}"));
            Ok(())
        }
        "lock" => {
            print!("{}", debian::lock());
            Ok(())
        }
        "kernel" => {
            println!("{}", kernel::ensure()?.display());
            Ok(())
        }
        "build" => build(&mut Arguments::of(rest)),
        "verify-reproducible" => verify(&mut Arguments::of(rest)),
        "show" => show(&mut Arguments::of(rest)),
        "config-disk" => match rest {
            [document, disk] => config_disk::make(document.as_ref(), disk.as_ref()),
            _ => Err(Error::Usage(USAGE.to_owned())),
        },
        "run" => start(&mut Arguments::of(rest)),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(Error::Usage(format!("unknown command {other}\n{USAGE}"))),
    }
}

fn build(arguments: &mut Arguments) -> Result<()> {
    let (inputs, out) = inputs(arguments)?;
    let began = Instant::now();
    let report = assemble::build(&inputs, &out)?;
    println!(
        "Gatehouse {} in {} ({:.1} s)",
        report.version,
        out.display(),
        began.elapsed().as_secs_f64()
    );
    for (name, size) in report.files {
        println!("{size:>12}  {name}");
    }
    Ok(())
}

fn verify(arguments: &mut Arguments) -> Result<()> {
    let (inputs, out) = inputs(arguments)?;
    let names = assemble::verify_reproducible(&inputs, &out)?;
    println!(
        "two builds are equal in all {} files: {}",
        names.len(),
        names.join(" ")
    );
    Ok(())
}

fn show(arguments: &mut Arguments) -> Result<()> {
    let path = arguments
        .0
        .pop()
        .ok_or_else(|| Error::Usage(USAGE.to_owned()))?;
    for (name, bytes) in uki::sections(&image_builder::read(path)?)? {
        println!("{:>10}  {name}", bytes.len());
    }
    Ok(())
}

fn start(arguments: &mut Arguments) -> Result<()> {
    let options = qemu::Options {
        image: arguments.path("--image", "target/image")?,
        direct: arguments.flag("--direct"),
        config: match (arguments.flag("--wizard"), arguments.value("--config")?) {
            (true, None) => qemu::Config::Wizard,
            (false, Some(file)) => qemu::Config::File(PathBuf::from(file)),
            (false, None) => qemu::Config::Demonstration,
            (true, Some(_)) => {
                return Err(Error::Usage(
                    "--wizard and --config exclude each other".to_owned(),
                ));
            }
        },
        secrets: arguments.value("--secrets")?.map(PathBuf::from),
        state: arguments.path("--state", "target/run")?,
        fresh: arguments.flag("--fresh"),
        user_network: arguments.flag("--user"),
    };
    arguments.end()?;
    qemu::start(&options)
}

fn inputs(arguments: &mut Arguments) -> Result<(Inputs, PathBuf)> {
    let given = arguments.value("--kernel")?.map(PathBuf::from);
    let programs = arguments.path("--bin-dir", "target/x86_64-unknown-linux-gnu/release")?;
    let out = arguments.path("--out", "target/image")?;
    let workspace = arguments.path("--workspace", ".")?;
    let locked = arguments.flag("--locked");
    arguments.end()?;
    let kernel = given.map_or_else(kernel::ensure, Ok)?;
    Ok((
        Inputs {
            programs,
            kernel,
            workspace,
            locked,
        },
        out,
    ))
}

/// What stands behind the command; each taken argument is removed, what is left at the end is an error.
struct Arguments(Vec<String>);

impl Arguments {
    fn of(words: &[String]) -> Self {
        Self(words.to_vec())
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(at);
        if at < self.0.len() {
            Ok(Some(self.0.remove(at)))
        } else {
            Err(Error::Usage(format!("{name} wants a value")))
        }
    }

    fn path(&mut self, name: &str, otherwise: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(
            self.value(name)?.unwrap_or_else(|| otherwise.to_owned()),
        ))
    }

    fn end(&self) -> Result<()> {
        match self.0.first() {
            Some(word) => Err(Error::Usage(format!("unknown argument {word}\n{USAGE}"))),
            None => Ok(()),
        }
    }
}

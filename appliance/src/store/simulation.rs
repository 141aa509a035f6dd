//! A disk that keeps only what it promised. Bytes that were not synced survive a cut in part, as zeros, or not at all; names
//! that were not synced survive each for itself, in any order. Deterministic: a seed gives one life.

use std::{cell::RefCell, collections::BTreeMap, io};

use super::Disk;

/// xorshift64*: enough to choose, and the same everywhere.
#[derive(Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).expect("31 bits") % bound.max(1)
    }
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    /// As of the last sync.
    durable: Vec<u8>,
}

#[derive(Clone)]
enum Change {
    Link {
        path: String,
        inode: usize,
    },
    /// Of a rename: not before the new name is there.
    Unlink {
        path: String,
        after: Option<String>,
    },
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Self::Link { path, .. } | Self::Unlink { path, .. } => path,
        }
    }
}

#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending: Vec<Change>,
    steps: usize,
    cut_at: Option<usize>,
    /// Octets that still fit.
    room: Option<usize>,
}

/// The disk. Clones share nothing.
#[derive(Clone, Default)]
pub(super) struct Simulation(RefCell<State>);

/// Octets that reach the disk in one step.
const SECTOR: usize = 512;

impl Simulation {
    /// Steps taken so far.
    pub(super) fn steps(&self) -> usize {
        self.0.borrow().steps
    }

    /// The power goes before this step; every operation fails from then on.
    pub(super) fn cut_at(&self, step: usize) {
        self.0.borrow_mut().cut_at = Some(step);
    }

    /// Only so many more octets fit; `None`: any number.
    pub(super) fn room(&self, octets: Option<usize>) {
        self.0.borrow_mut().room = octets;
    }

    /// What is found when the power is back.
    pub(super) fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let old = self.0.borrow();
        let mut names = old.durable_names.clone();
        let mut kept = Vec::new();
        for change in &old.pending {
            match change {
                Change::Link { path, inode } if dice.below(2) == 0 => {
                    names.insert(path.clone(), *inode);
                    kept.push(path.clone());
                }
                Change::Unlink { path, after } => {
                    let may = after.as_ref().is_none_or(|after| {
                        kept.contains(after) || old.durable_names.contains_key(after)
                    });
                    if dice.below(2) == 0 && may {
                        names.remove(path);
                    }
                }
                Change::Link { .. } => {}
            }
        }
        let inodes = old
            .inodes
            .iter()
            .map(|inode| {
                let bytes = survivor(inode, dice);
                Inode {
                    durable: bytes.clone(),
                    bytes,
                }
            })
            .collect();
        Self(RefCell::new(State {
            inodes,
            durable_names: names.clone(),
            names,
            ..State::default()
        }))
    }

    /// Flips one bit of a file, as a bad cell would.
    pub(super) fn flip(&self, path: &str, dice: &mut Dice) {
        let mut state = self.0.borrow_mut();
        let inode = state.names.get(path).copied().expect("file");
        let bytes = &mut state.inodes[inode].bytes;
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }

    fn step(&self) -> io::Result<std::cell::RefMut<'_, State>> {
        let mut state = self.0.borrow_mut();
        if state.cut_at.is_some_and(|cut| state.steps >= cut) {
            return Err(io::Error::other("power cut"));
        }
        state.steps += 1;
        Ok(state)
    }
}

/// Bytes of a file after the cut.
fn survivor(inode: &Inode, dice: &mut Dice) -> Vec<u8> {
    if inode.bytes == inode.durable {
        return inode.durable.clone();
    }
    let mut bytes = inode.bytes.clone();
    match dice.below(5) {
        0 => return inode.durable.clone(),
        1 => bytes.truncate(dice.below(bytes.len() / SECTOR + 2) * SECTOR),
        2 => bytes.chunks_mut(SECTOR).for_each(|sector| {
            if dice.below(2) == 0 {
                sector.fill(0);
            }
        }),
        3 => bytes.clear(),
        _ => {}
    }
    bytes
}

fn directory(path: &str) -> &str {
    path.split_once('/').map_or("", |(directory, _)| directory)
}

impl State {
    fn file(&self, path: &str) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for Simulation {
    fn list(&self, of: &str) -> io::Result<Vec<String>> {
        let state = self.step()?;
        Ok(state
            .names
            .keys()
            .filter(|path| directory(path) == of)
            .filter_map(|path| path.rsplit('/').next())
            .map(str::to_owned)
            .collect())
    }

    fn read(&self, path: &str, most: usize) -> io::Result<Vec<u8>> {
        let state = self.step()?;
        let inode = state.file(path)?;
        let bytes = state.inodes[inode].bytes.clone();
        if bytes.len() > most {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            Ok(bytes)
        }
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.remove(path)?;
        let inode = {
            let mut state = self.step()?;
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.names.insert(path.to_owned(), inode);
            state.pending.push(Change::Link {
                path: path.to_owned(),
                inode,
            });
            inode
        };
        for sector in bytes.chunks(SECTOR) {
            let mut state = self.step()?;
            if let Some(room) = state.room {
                let fits = sector.len().min(room);
                state.inodes[inode].bytes.extend_from_slice(&sector[..fits]);
                state.room = Some(room - fits);
                if fits < sector.len() {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            } else {
                state.inodes[inode].bytes.extend_from_slice(sector);
            }
        }
        Ok(())
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = state.file(path)?;
        state.inodes[inode].durable = state.inodes[inode].bytes.clone();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = state.file(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        state.pending.push(Change::Link {
            path: to.to_owned(),
            inode,
        });
        state.pending.push(Change::Unlink {
            path: from.to_owned(),
            after: Some(to.to_owned()),
        });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.step()?;
        if state.names.remove(path).is_some() {
            state.pending.push(Change::Unlink {
                path: path.to_owned(),
                after: None,
            });
        }
        Ok(())
    }

    fn sync_directory(&self, of: &str) -> io::Result<()> {
        let mut state = self.step()?;
        let (mine, others): (Vec<_>, Vec<_>) = state
            .pending
            .drain(..)
            .partition(|change| directory(change.path()) == of);
        state.pending = others;
        for change in mine {
            match change {
                Change::Link { path, inode } => {
                    state.durable_names.insert(path, inode);
                }
                Change::Unlink { path, .. } => {
                    state.durable_names.remove(&path);
                }
            }
        }
        Ok(())
    }

    fn make_directory(&self, _: &str) -> io::Result<()> {
        self.step().map(|_| ())
    }
}

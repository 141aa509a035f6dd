//! One append-only stream of records: JSON lines in numbered segments, each line bound to the one before it by SHA-256.
//!
//! A line is `{"seq":…,"prev":"<hash of the line before>",…}`; its hash is SHA-256 over the line without its line end. The
//! first line of a segment carries on from the last line of the segment before, so a segment that is cut, edited or taken
//! out of the middle is found. The oldest segment may be dropped when the store is full: that is the stated rule, it is
//! recorded, and what is left still verifies from its own first line on. Two streams exist: what the sbc says, and what the
//! rest of the house says, so that a captured sbc cannot push the house's records out.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Bounds of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Octets after which a new segment begins.
    pub segment_octets: u64,
    /// Segments kept; the oldest goes when one more begins.
    pub segments: usize,
}

/// What was found and done when a stream was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Octets of an unfinished last line that were cut off (power was lost while it was written).
    pub torn_octets: u64,
    /// First line whose link to its predecessor does not hold, as `segment:line`; later records chain on from what is there.
    pub broken_at: Option<String>,
}

/// Hash of a line, the link to its successor.
pub(super) type Link = [u8; 32];

/// A stream on disk.
pub struct Chain {
    directory: PathBuf,
    name: &'static str,
    bounds: Bounds,
    file: File,
    number: u64,
    octets: u64,
    last: Link,
    sequence: u64,
    dropped: u64,
}

impl Chain {
    /// Opens (or begins) the stream `name` in `directory`, verifies it and cuts off a torn last line.
    ///
    /// # Errors
    /// Those of the file system; nothing is written in that case but what was found whole stays.
    pub fn open(
        directory: &Path,
        name: &'static str,
        bounds: Bounds,
    ) -> io::Result<(Self, Recovery)> {
        let mut recovery = Recovery::default();
        let numbers = segments(directory, name)?;
        let mut last: Link = [0; 32];
        let mut sequence = 0;
        let mut first = true;
        for &number in &numbers {
            let path = path_of(directory, name, number);
            let scan = scan(&path, last, first)?;
            first = false;
            if let (Some(line), None) = (scan.broken_line, &recovery.broken_at) {
                recovery.broken_at = Some(format!(
                    "{}:{line}",
                    path.file_name().unwrap_or_default().display()
                ));
            }
            last = scan.last;
            sequence = sequence.max(scan.sequence);
            if scan.torn > 0 {
                OpenOptions::new()
                    .write(true)
                    .open(&path)?
                    .set_len(scan.whole)?;
                recovery.torn_octets += scan.torn;
            }
        }
        let number = numbers.last().copied().unwrap_or(1);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path_of(directory, name, number))?;
        let octets = file.seek(SeekFrom::End(0))?;
        sync_directory(directory)?;
        Ok((
            Self {
                directory: directory.to_owned(),
                name,
                bounds,
                file,
                number,
                octets,
                last,
                sequence,
                dropped: 0,
            },
            recovery,
        ))
    }

    /// Appends a record: `body` is the inside of a JSON object, without braces, that follows `seq` and `prev`. The line is on
    /// disk for sure only after [`Self::sync`]. When the disk is full the oldest segments go first.
    ///
    /// # Errors
    /// Those of the file system, after the oldest segments could not make room. The stream stays whole.
    pub fn append(&mut self, sequence: u64, body: &str) -> io::Result<()> {
        if self.octets >= self.bounds.segment_octets {
            self.rotate()?;
        }
        let line = format!(
            "{{\"seq\":{sequence},\"prev\":\"{}\",{body}}}\n",
            hex(&self.last)
        );
        let written = loop {
            match self.file.write_all(line.as_bytes()) {
                Ok(()) => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    self.file.set_len(self.octets)?;
                    if !self.drop_oldest()? {
                        break Err(error);
                    }
                }
                Err(error) => {
                    // A half-written line must not become the start of the next one.
                    let _ = self.file.set_len(self.octets);
                    break Err(error);
                }
            }
        };
        written?;
        self.octets += line.len() as u64;
        self.last = Sha256::digest(line.trim_end_matches('\n').as_bytes()).into();
        self.sequence = sequence;
        Ok(())
    }

    /// Makes everything appended so far survive a power cut.
    ///
    /// # Errors
    /// Those of `fdatasync`.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Highest sequence number in the stream, 0 if it is empty.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Records lost with segments that were dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Lines with a sequence number above `after` for which `wanted` holds, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(
        &self,
        after: u64,
        limit: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<(u64, String)>> {
        let mut lines = Vec::new();
        let numbers = segments(&self.directory, self.name)?;
        // A segment is passed over unread if the one behind it begins early enough.
        let mut first = 0;
        for (index, number) in numbers.iter().enumerate().skip(1) {
            if self
                .first_sequence(*number)?
                .is_some_and(|begins| begins <= after.saturating_add(1))
            {
                first = index;
            }
        }
        for &number in numbers.iter().skip(first) {
            let reader = BufReader::new(File::open(path_of(&self.directory, self.name, number))?);
            for line in reader.lines() {
                let line = line?;
                let Some(sequence) = sequence_of(&line) else {
                    continue;
                };
                if sequence > after && wanted(&line) {
                    lines.push((sequence, line));
                    if lines.len() >= limit {
                        return Ok(lines);
                    }
                }
            }
        }
        Ok(lines)
    }

    /// The last `limit` lines with a sequence number above `after` for which `wanted` holds, in their order. Segments are
    /// read from the newest on, and no more of them than it takes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read_newest(
        &self,
        after: u64,
        limit: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<(u64, String)>> {
        let mut found: Vec<(u64, String)> = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        for number in segments(&self.directory, self.name)?.into_iter().rev() {
            let mut lines = VecDeque::new();
            let mut first = None;
            let reader = BufReader::new(File::open(path_of(&self.directory, self.name, number))?);
            for line in reader.lines() {
                let line = line?;
                let Some(sequence) = sequence_of(&line) else {
                    continue;
                };
                first = first.or(Some(sequence));
                if sequence > after && wanted(&line) {
                    if lines.len() >= limit.saturating_sub(found.len()) {
                        lines.pop_front();
                    }
                    lines.push_back((sequence, line));
                }
            }
            lines.extend(found);
            found = lines.into();
            if found.len() >= limit || first.is_some_and(|first| first <= after) {
                break;
            }
        }
        Ok(found)
    }

    /// Sequence number that a segment begins with; `None`: it is empty.
    fn first_sequence(&self, number: u64) -> io::Result<Option<u64>> {
        let file = File::open(path_of(&self.directory, self.name, number))?;
        let mut line = String::new();
        BufReader::new(file).read_line(&mut line)?;
        Ok(sequence_of(&line))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let number = self.number + 1;
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(path_of(&self.directory, self.name, number))?;
        sync_directory(&self.directory)?;
        self.file = file;
        self.number = number;
        self.octets = 0;
        while segments(&self.directory, self.name)?.len() > self.bounds.segments {
            if !self.drop_oldest()? {
                break;
            }
        }
        Ok(())
    }

    /// Removes the oldest segment unless it is the one being written. Says whether there was one.
    fn drop_oldest(&mut self) -> io::Result<bool> {
        let numbers = segments(&self.directory, self.name)?;
        let Some(&oldest) = numbers.first().filter(|&&number| number != self.number) else {
            return Ok(false);
        };
        let path = path_of(&self.directory, self.name, oldest);
        let mut text = String::new();
        File::open(&path)?.read_to_string(&mut text)?;
        self.dropped += text.lines().count() as u64;
        fs::remove_file(path)?;
        sync_directory(&self.directory)?;
        Ok(true)
    }
}

struct Scan {
    last: Link,
    sequence: u64,
    whole: u64,
    torn: u64,
    broken_line: Option<usize>,
}

/// Reads a segment through. `first`: its first line may follow a segment that was dropped, so its link is taken as given.
fn scan(path: &Path, previous: Link, first: bool) -> io::Result<Scan> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mut scan = Scan {
        last: previous,
        sequence: 0,
        whole: 0,
        torn: 0,
        broken_line: None,
    };
    let mut rest: &[u8] = &bytes;
    let mut number = 0;
    while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
        let (line, tail) = rest.split_at(end);
        rest = tail.get(1..).unwrap_or_default();
        number += 1;
        let text = String::from_utf8_lossy(line);
        let linked = text.contains(&format!("\"prev\":\"{}\"", hex(&scan.last)));
        if !(linked || (first && number == 1)) && scan.broken_line.is_none() {
            scan.broken_line = Some(number);
        }
        scan.sequence = scan.sequence.max(sequence_of(&text).unwrap_or(0));
        scan.last = Sha256::digest(line).into();
        scan.whole += end as u64 + 1;
    }
    scan.torn = rest.len() as u64;
    Ok(scan)
}

/// Whether the stream `name` in `directory` holds together from its first line on; the first fault as `segment:line`.
///
/// # Errors
/// Those of the file system.
pub fn verify(directory: &Path, name: &str) -> io::Result<Option<String>> {
    let mut last: Link = [0; 32];
    let mut first = true;
    for number in segments(directory, name)? {
        let path = path_of(directory, name, number);
        let scan = scan(&path, last, first)?;
        if let Some(line) = scan.broken_line {
            return Ok(Some(format!(
                "{}:{line}",
                path.file_name().unwrap_or_default().display()
            )));
        }
        last = scan.last;
        first = false;
    }
    Ok(None)
}

fn segments(directory: &Path, name: &str) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = fs::read_dir(directory)?
        .filter_map(|entry| {
            let file_name = entry.ok()?.file_name();
            file_name
                .to_str()?
                .strip_prefix(name)?
                .strip_prefix('-')?
                .strip_suffix(".jsonl")?
                .parse()
                .ok()
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn path_of(directory: &Path, name: &str, number: u64) -> PathBuf {
    directory.join(format!("{name}-{number:08}.jsonl"))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn sequence_of(line: &str) -> Option<u64> {
    line.strip_prefix("{\"seq\":")?
        .split(',')
        .next()?
        .parse()
        .ok()
}

fn hex(link: &Link) -> String {
    use std::fmt::Write as _;
    link.iter()
        .fold(String::with_capacity(64), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        segment_octets: 600,
        segments: 3,
    };

    fn filled(directory: &Path, records: u64) -> Chain {
        let (mut chain, _) = Chain::open(directory, "house", BOUNDS).unwrap();
        for sequence in 1..=records {
            chain
                .append(sequence, &format!("\"code\":\"record-{sequence}\""))
                .unwrap();
        }
        chain.sync().unwrap();
        chain
    }

    #[test]
    fn records_come_back_in_order_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        drop(filled(directory.path(), 4));
        let (chain, recovery) = Chain::open(directory.path(), "house", BOUNDS).unwrap();
        assert_eq!(recovery, Recovery::default());
        assert_eq!(chain.sequence(), 4);
        let sequences: Vec<u64> = chain
            .read(1, 10, |_| true)
            .unwrap()
            .into_iter()
            .map(|(sequence, _)| sequence)
            .collect();
        assert_eq!(sequences, [2, 3, 4]);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_nothing_else_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        drop(filled(directory.path(), 3));
        let path = path_of(directory.path(), "house", 1);
        let whole = fs::metadata(&path).unwrap().len();
        for cut in 1..60 {
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend_from_slice(&vec![b'x'; cut]);
            fs::write(&path, &bytes).unwrap();
            let (chain, recovery) = Chain::open(directory.path(), "house", BOUNDS).unwrap();
            assert_eq!(recovery.torn_octets, cut as u64);
            assert_eq!(chain.sequence(), 3);
            assert_eq!(fs::metadata(&path).unwrap().len(), whole);
        }
    }

    #[test]
    fn an_edited_record_is_found() {
        let directory = tempfile::tempdir().unwrap();
        drop(filled(directory.path(), 8));
        assert_eq!(verify(directory.path(), "house").unwrap(), None);
        let path = path_of(directory.path(), "house", 1);
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("record-2", "record-9");
        fs::write(&path, text).unwrap();
        assert_eq!(
            verify(directory.path(), "house").unwrap(),
            Some("house-00000001.jsonl:3".into())
        );
    }

    #[test]
    fn a_segment_taken_out_of_the_middle_is_found() {
        let directory = tempfile::tempdir().unwrap();
        drop(filled(directory.path(), 15));
        let numbers = segments(directory.path(), "house").unwrap();
        assert_eq!(numbers.len(), 3);
        fs::remove_file(path_of(directory.path(), "house", numbers[1])).unwrap();
        assert!(verify(directory.path(), "house").unwrap().is_some());
    }

    #[test]
    fn the_oldest_segment_goes_first_and_the_loss_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut chain = filled(directory.path(), 40);
        assert_eq!(
            segments(directory.path(), "house").unwrap().len(),
            BOUNDS.segments
        );
        let left = chain.read(0, 100, |_| true).unwrap();
        assert_eq!(left.last().unwrap().0, 40);
        assert_eq!(chain.take_dropped(), 40 - left.len() as u64);
        assert_eq!(chain.take_dropped(), 0);
        assert_eq!(verify(directory.path(), "house").unwrap(), None);
    }
}

//! The store against the simulated disk (power cuts, full disk, bad cells) and against a real directory.

use std::os::unix::fs::PermissionsExt;

use super::{
    simulation::{Dice, Simulation},
    *,
};

/// Revision `n`'s document and secrets: to be recognised, larger than a sector, and every second one without new secrets.
fn content(n: u64) -> (Document, Vec<(String, SecretBytes)>) {
    let text = include_str!("../../../tests/lab/gatehouse.toml")
        .replace("name = \"gatehouse\"", &format!("name = \"revision-{n}\""));
    let document = Document::parse(&text, "test").expect("valid");
    let secrets = if n.is_multiple_of(2) {
        vec![
            ("trunk2".to_owned(), value(n)),
            (format!("only-{n}"), value(n)),
        ]
    } else {
        Vec::new()
    };
    (document, secrets)
}

fn value(n: u64) -> SecretBytes {
    SecretBytes(format!("secret {n} ").repeat(100).into_bytes())
}

/// Which of the contents is stored; its secrets must be its own or those of the last one before it that had any.
fn stored(store: &Store<Simulation>) -> Option<u64> {
    let stored = store.load().stored?;
    let n: u64 = stored
        .document
        .host
        .name
        .strip_prefix("revision-")
        .and_then(|n| n.parse().ok())
        .expect("of this test");
    assert_eq!(stored.document, content(n).0);
    let (secrets, complaints) = store.secrets(stored.revision);
    assert_eq!(complaints, Vec::<String>::new());
    let trunk = secrets
        .iter()
        .find(|(name, _)| name == "trunk2")
        .map(|(_, value)| value.clone());
    let of = n - n % 2;
    assert_eq!(
        trunk,
        (of > 0).then(|| value(of)),
        "content {n} reads the secret of {of}"
    );
    assert_eq!(
        secrets.iter().any(|(name, _)| *name == format!("only-{n}")),
        n.is_multiple_of(2) && n > 0
    );
    Some(n)
}

fn commit(store: &mut Store<Simulation>, n: u64) -> Result<u64, StoreError> {
    let (document, secrets) = content(n);
    store.commit(&document, &secrets)
}

/// A store with contents 1 to `n`, all durable.
fn store_with(n: u64) -> Store<Simulation> {
    let mut store = Store::on(Simulation::default()).expect("disk");
    for n in 1..=n {
        commit(&mut store, n).expect("room");
    }
    store
}

#[test]
fn a_thousand_power_cuts_leave_the_old_or_the_new_configuration() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..1000 {
        let mut dice = Dice::new(seed);
        let before = u64::try_from(dice.below(4)).expect("small");
        let mut store = store_with(before);
        let mut probe = Store {
            disk: store.disk.clone(),
            highest: store.highest,
        };
        let start = probe.disk.steps();
        commit(&mut probe, before + 1).expect("room");
        let steps = probe.disk.steps() - start;
        store.disk.cut_at(start + dice.below(steps + 1));
        let answer = commit(&mut store, before + 1);

        let mut again = Store::on(store.disk.after_power_cut(&mut dice)).expect("disk");
        let found = stored(&again).unwrap_or(0);
        assert!(
            found == before || found == before + 1,
            "seed {seed}: {found} after {before}"
        );
        assert!(
            answer.is_err() || found == before + 1,
            "seed {seed}: the commit was confirmed and is gone"
        );
        if found == before {
            old += 1
        } else {
            new += 1
        }

        // Life goes on, through a second cut too.
        let next = found + 1;
        again.disk.cut_at(again.disk.steps() + dice.below(steps));
        let _ = commit(&mut again, next);
        let mut third = Store::on(again.disk.after_power_cut(&mut dice)).expect("disk");
        let found = stored(&third).unwrap_or(0);
        assert!(
            found == next - 1 || found == next,
            "seed {seed}: {found} after {}",
            next - 1
        );
        commit(&mut third, found + 1).expect("room");
        assert_eq!(stored(&third), Some(found + 1), "seed {seed}");
    }
    assert!(
        old > 100 && new > 100,
        "both outcomes occur: {old} old, {new} new"
    );
}

#[test]
fn a_cut_while_a_revision_is_dropped_leaves_it_or_the_one_before() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let mut store = store_with(4);
        store.disk.cut_at(store.disk.steps() + dice.below(40));
        let _ = store.discard(4);
        let mut again = Store::on(store.disk.after_power_cut(&mut dice)).expect("disk");
        let found = stored_loosely(&again);
        assert!(
            found == Some(3) || found == Some(4),
            "seed {seed}: {found:?}"
        );
        // A revision without secrets must not find those of the dropped one.
        if found == Some(3) {
            commit(&mut again, 5).expect("room");
            let revision = again.load().stored.expect("committed").revision;
            let (secrets, _) = again.secrets(revision);
            assert!(
                secrets
                    .iter()
                    .all(|(name, found)| name != "trunk2" || *found == value(2)),
                "seed {seed}"
            );
        }
    }
}

/// The stored content; the secrets of a revision that is being dropped may be gone already.
fn stored_loosely(store: &Store<Simulation>) -> Option<u64> {
    let stored = store.load().stored?;
    stored
        .document
        .host
        .name
        .strip_prefix("revision-")
        .and_then(|n| n.parse().ok())
}

#[test]
fn a_cut_while_everything_is_erased_never_brings_an_older_configuration_back() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let mut store = store_with(4);
        store.disk.cut_at(store.disk.steps() + dice.below(30));
        let erased = store.erase();
        let again = Store::on(store.disk.after_power_cut(&mut dice)).expect("disk");
        let found = stored_loosely(&again);
        assert!(
            found.is_none() || (found == Some(4) && erased.is_err()),
            "seed {seed}: {found:?}"
        );
        assert!(erased.is_err() || again.all_secrets().is_empty());
    }
}

#[test]
fn on_a_full_disk_a_commit_fails_with_a_sentence_and_the_old_configuration_stays() {
    let mut fits = 0;
    for room in (0..40_000).step_by(500) {
        let mut store = store_with(3);
        store.disk.room(Some(room));
        match commit(&mut store, 4) {
            Ok(_) => {
                fits += 1;
                assert_eq!(stored(&store), Some(4));
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Full), "{error}");
                assert!(error.to_string().contains("full") && error.to_string().contains("stays"));
                assert_eq!(stored(&store), Some(3), "room for {room} octets");
                store.disk.room(None);
                commit(&mut store, 5).expect("room again");
                let revision = store.load().stored.expect("committed").revision;
                let trunk = store
                    .secrets(revision)
                    .0
                    .into_iter()
                    .find(|(name, _)| name == "trunk2");
                assert_eq!(
                    trunk.map(|(_, found)| found),
                    Some(value(2)),
                    "secrets of the failed commit are not read"
                );
            }
        }
    }
    assert!(fits > 0);
}

#[test]
fn a_flipped_bit_is_noticed_and_the_revision_before_runs() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let mut store = store_with(3);
        store.disk.flip(&revision_path(3), &mut dice);
        let loaded = store.load();
        assert_eq!(loaded.stored.map(|stored| stored.revision), Some(2));
        assert_eq!(loaded.complaints.len(), 1, "{:?}", loaded.complaints);
        assert!(
            loaded
                .complaints
                .iter()
                .all(|line| line.contains("revision 3 is passed over"))
        );
        // The next commit keeps the good one, not the broken one, as its predecessor.
        let revision = commit(&mut store, 4).expect("room");
        store.disk.flip(&revision_path(revision), &mut dice);
        assert_eq!(store.load().stored.map(|stored| stored.revision), Some(2));
    }
}

#[test]
fn a_disk_full_of_broken_files_still_loads_with_complaints() {
    let store = store_with(0);
    for (name, bytes) in [
        ("revisions/0000000001.toml", b"".as_slice()),
        ("revisions/0000000002.toml", b"schema = 1\n"),
        ("revisions/0000000003.toml", &[0xff; 9000]),
        (
            "revisions/0000000004.toml",
            &Record::seal(b"schema = 1\n", 4),
        ),
        ("revisions/0000000005.toml", &Record::seal(b"\xff", 5)),
        ("revisions/5.toml", b"x"),
        ("revisions/notes", b"x"),
        ("secrets/..", b"x"),
    ] {
        store.disk.write(name, bytes).expect("room");
    }
    let mut store = Store::on(store.disk.clone()).expect("disk");
    let loaded = store.load();
    assert_eq!(loaded.stored, None);
    assert_eq!(loaded.complaints.len(), 5, "{:?}", loaded.complaints);
    assert_eq!(commit(&mut store, 1).expect("room"), 6);
    assert_eq!(stored(&store), Some(1));
}

#[test]
fn the_newest_two_revisions_and_the_secrets_they_read_are_kept() {
    let store = store_with(9);
    let mut revisions = store.all_revisions();
    revisions.sort_unstable();
    assert_eq!(revisions, [8, 9]);
    let (secrets, _) = store.secrets(9);
    assert_eq!(secrets.len(), 5, "one of each name");
    assert!(
        store
            .all_secrets()
            .iter()
            .filter(|(name, _)| name == "trunk2")
            .all(|(_, of)| *of == 8)
    );
}

#[test]
fn a_dropped_revision_is_followed_by_the_one_before_unless_there_is_none() {
    let mut store = store_with(2);
    assert_eq!(
        store
            .discard(2)
            .expect("disk")
            .map(|stored| stored.revision),
        Some(1)
    );
    assert_eq!(stored(&store), Some(1));
    assert_eq!(store.discard(1).expect("disk"), None);
    assert_eq!(stored(&store), Some(1));
    assert_eq!(
        commit(&mut store, 3).expect("room"),
        3,
        "no number is used twice"
    );
}

#[test]
fn a_secret_without_a_commit_is_kept_and_replaced() {
    let mut store = Store::on(Simulation::default()).expect("disk");
    store.put_secret("management", &value(1)).expect("room");
    store.put_secret("management", &value(2)).expect("room");
    assert_eq!(store.secrets(0).0, [("management".to_owned(), value(2))]);
    commit(&mut store, 2).expect("room");
    let names: Vec<String> = store
        .secrets(1)
        .0
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["management", "only-2", "trunk2"]);
    for bad in ["", "../x", "UPPER", "a.b", "-x"] {
        assert!(
            matches!(store.put_secret(bad, &value(1)), Err(StoreError::BadSecret)),
            "{bad}"
        );
    }
    let large = SecretBytes(vec![0; MAX_SECRET + 1]);
    assert!(matches!(
        store.put_secret("large", &large),
        Err(StoreError::BadSecret)
    ));
}

#[test]
fn on_a_real_directory_files_are_private_and_survive_reopening() {
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path().join("store");
    let mut store = Store::open(&root).expect("open");
    let (document, secrets) = content(2);
    assert_eq!(store.commit(&document, &secrets).expect("room"), 1);
    let store = Store::open(&root).expect("open again");
    assert_eq!(
        store.load(),
        Loaded {
            stored: Some(Stored {
                revision: 1,
                document
            }),
            complaints: Vec::new()
        }
    );
    assert_eq!(store.secrets(1).0.len(), 2);
    let mode = |path: &str| {
        std::fs::metadata(root.join(path))
            .expect("there")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode(""), mode("secrets"), mode("revisions")),
        (0o700, 0o700, 0o700)
    );
    assert_eq!(
        (
            mode("secrets/trunk2.0000000001"),
            mode("revisions/0000000001.toml")
        ),
        (0o600, 0o600)
    );
    assert!(!root.join("new").exists());
}

#[test]
fn a_link_in_place_of_a_file_is_not_followed() {
    let directory = tempfile::tempdir().expect("directory");
    let store = Store::open(directory.path()).expect("open");
    let outside = directory.path().join("outside");
    std::fs::write(
        &outside,
        Record::seal(content(1).0.canonical().as_bytes(), 1).as_slice(),
    )
    .expect("write");
    std::os::unix::fs::symlink(&outside, directory.path().join("revisions/0000000001.toml"))
        .expect("link");
    let loaded = store.load();
    assert_eq!(loaded.stored, None);
    assert_eq!(loaded.complaints.len(), 1);
}

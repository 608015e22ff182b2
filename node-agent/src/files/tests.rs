//! Trees in temporary folders: whatever is done at the source, the destination looks the same after a round.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use super::*;

struct Pair {
    from: tempfile::TempDir,
    to: tempfile::TempDir,
    tree: Tree,
    applier: Applier,
}

impl Pair {
    fn new() -> Pair {
        let from = tempfile::tempdir().expect("a folder");
        let tree = Tree::new("t", Root::open(from.path()).expect("open"), Listing::All);
        Pair { from, to: tempfile::tempdir().expect("a folder"), tree, applier: Applier::default() }
    }

    fn round(&mut self) -> Sent {
        let Pair { tree, applier, to, .. } = self;
        let sent = tree.round(true, &mut |piece| give(applier, to.path(), piece)).expect("a round");
        applier.close().expect("close");
        sent
    }

    fn check(&self) {
        assert_eq!(look(self.from.path()), look(self.to.path()));
    }
}

fn give(applier: &mut Applier, to: &Path, piece: Piece) -> Result<(), FileError> {
    match piece {
        Piece::Change(bytes) => match Change::decode(&bytes)? {
            Change::Tree(_) => applier.enter(Arc::new(Root::open(to).expect("open"))),
            change => applier.change(change),
        },
        Piece::Block { offset, content } => applier.block(offset, &content),
        Piece::Archive(_) => panic!("a tree has no archive"),
    }
}

/// Everything that is to be equal, by path; inodes as the first path that has them.
fn look(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut inodes = BTreeMap::new();
    let mut found = BTreeMap::new();
    let root = Root::open(folder).expect("open");
    for Listed { path, .. } in Listing::All.paths(&root).expect("list") {
        let full = folder.join(&path);
        let meta = fs::symlink_metadata(&full).expect("stat");
        let node::Node::Here { handle, stat } = node::Node::look(&root, &path).expect("look") else { panic!("gone") };
        let metadata = node::metadata(&handle, &stat).expect("metadata");
        let content = match meta.file_type() {
            kind if kind.is_file() => blake3::hash(&fs::read(&full).expect("read")).to_string(),
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&full).expect("link")),
            _ => String::new(),
        };
        let first = inodes.entry(meta.ino()).or_insert_with(|| path.clone()).clone();
        let size = if meta.is_dir() { 0 } else { meta.size() };
        found.insert(path, format!("{:o} {metadata:?} {size} {} {content} {first:?}", meta.mode(), meta.rdev()));
    }
    found
}

#[test]
fn files_of_every_kind_come_over() {
    let mut pair = Pair::new();
    let at = |name: &str| pair.from.path().join(name);
    fs::write(at("plain"), vec![7; 3 * BLOCK + 5]).expect("write");
    fs::set_permissions(at("plain"), fs::Permissions::from_mode(0o4751)).expect("mode");
    fs::hard_link(at("plain"), at("other name")).expect("link");
    fs::create_dir_all(at("a/b/empty")).expect("folders");
    symlink("../../etc/passwd", at("a/link")).expect("symlink");
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).expect("fifo");
    lsetxattr(at("plain"), "user.note", b"x\0y", XattrFlags::empty()).expect("xattr");
    let sparse = fs::File::create(at("sparse")).expect("create");
    sparse.set_len(64 << 20).expect("length");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 40 << 20).expect("write");
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(at("a")).and_then(|folder| folder.set_modified(old)).expect("time");

    let sent = pair.round();
    pair.check();
    assert!(sent.bytes < 1 << 20, "holes do not travel: {sent:?}");
    let blocks = fs::metadata(pair.to.path().join("sparse")).expect("stat").blocks();
    assert!(blocks * 512 < 1 << 20, "holes stay holes: {blocks}");
    assert_eq!(pair.round(), Sent::default(), "nothing changed");
}

#[test]
fn of_a_large_file_only_the_new_blocks_travel() {
    let mut pair = Pair::new();
    let log = pair.from.path().join("log");
    fs::write(&log, vec![1; 100 * BLOCK]).expect("write");
    pair.round();
    let file = fs::OpenOptions::new().append(true).open(&log).expect("open");
    std::io::Write::write_all(&mut &file, b"one more line\n").expect("append");
    let sent = pair.round();
    pair.check();
    assert!(sent.bytes <= BLOCK as u64, "{sent:?}");
    file.set_len(7).expect("cut");
    pair.round();
    pair.check();
}

#[test]
fn kinds_change_and_links_part() {
    let mut pair = Pair::new();
    let at = |pair: &Pair, name: &str| pair.from.path().join(name);
    fs::create_dir_all(at(&pair, "d/e")).expect("folders");
    fs::write(at(&pair, "d/e/f"), "1").expect("write");
    fs::write(at(&pair, "x"), "2").expect("write");
    fs::hard_link(at(&pair, "x"), at(&pair, "y")).expect("link");
    fs::hard_link(at(&pair, "x"), at(&pair, "z")).expect("link");
    pair.round();
    pair.check();
    fs::remove_dir_all(at(&pair, "d")).expect("remove");
    fs::write(at(&pair, "d"), "a file now").expect("write");
    fs::remove_file(at(&pair, "x")).expect("remove");
    fs::create_dir(at(&pair, "x")).expect("a folder now");
    fs::write(at(&pair, "y"), "changed in place").expect("write");
    pair.round();
    pair.check();
    fs::remove_file(at(&pair, "z")).expect("remove");
    fs::write(at(&pair, "z"), "on its own").expect("write");
    pair.round();
    pair.check();
}

#[test]
fn nothing_is_written_outside_of_the_tree() {
    let outside = tempfile::tempdir().expect("a folder");
    let to = tempfile::tempdir().expect("a folder");
    symlink(outside.path(), to.path().join("way")).expect("symlink");
    fs::write(outside.path().join("kept"), "kept").expect("write");
    let metadata = Metadata { mode: 0o644, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() };
    for path in ["..", "../x", "/etc/x", "a/../../x", "./x", "a//x", "a/."] {
        let change = Change::File { path: path.into(), metadata: metadata.clone(), size: 0 };
        assert!(Change::decode(&change.encode()).is_err(), "{path}");
        let link = Change::Link { path: "x".into(), to: path.into() };
        assert!(Change::decode(&link.encode()).is_err(), "{path}");
    }
    let mut applier = Applier::default();
    applier.enter(Arc::new(Root::open(to.path()).expect("open"))).expect("enter");
    let changes = [
        Change::File { path: "way/new".into(), metadata: metadata.clone(), size: 0 },
        Change::Directory { path: "way/folder".into(), metadata: metadata.clone(), clear: true },
        Change::Patch { path: "way/kept".into(), metadata: metadata.clone(), size: 0 },
        Change::Patch { path: "way".into(), metadata: metadata.clone(), size: 0 },
        Change::Link { path: "mine".into(), to: "way/kept".into() },
        Change::Symlink { path: "way/link".into(), metadata: metadata.clone(), target: b"x".to_vec() },
        Change::Place { path: "way/place".into(), directory: true },
        Change::Special { path: "way/null".into(), metadata: metadata.clone(), kind: 0o020_000, device: 259 },
        Change::Special { path: "whiteout".into(), metadata: metadata.clone(), kind: 0o020_000, device: 0 },
    ];
    for change in changes {
        assert!(applier.change(change.clone()).is_err(), "{change:?}");
    }
    applier.change(Change::Remove("way/kept".into())).expect("there is no such file inside");
    applier.change(Change::Directory { path: "way".into(), metadata, clear: true }).expect("replaces the link");
    assert_eq!(fs::read_to_string(outside.path().join("kept")).expect("read"), "kept");
    assert_eq!(fs::read_dir(outside.path()).expect("list").count(), 1);
}

#[derive(Debug, Clone)]
enum Deed {
    Write(u8, usize, u8),
    Append(u8, u8),
    Folder(u8),
    Remove(u8),
    Symlink(u8, u8),
    HardLink(u8, u8),
    Mode(u8, u32),
    Rename(u8, u8),
    Round,
}

fn deed() -> impl Strategy<Value = Deed> {
    let place = 0..12_u8;
    prop_oneof![
        (place.clone(), 0..3 * BLOCK, any::<u8>()).prop_map(|(place, size, byte)| Deed::Write(place, size, byte)),
        (place.clone(), any::<u8>()).prop_map(|(place, byte)| Deed::Append(place, byte)),
        place.clone().prop_map(Deed::Folder),
        place.clone().prop_map(Deed::Remove),
        (place.clone(), place.clone()).prop_map(|(a, b)| Deed::Symlink(a, b)),
        (place.clone(), place.clone()).prop_map(|(a, b)| Deed::HardLink(a, b)),
        (place.clone(), 0o400..0o7777_u32).prop_map(|(place, mode)| Deed::Mode(place, mode)),
        (place.clone(), place).prop_map(|(a, b)| Deed::Rename(a, b)),
        Just(Deed::Round),
    ]
}

/// Twelve places: four in the root, four in the first of them, four in the second.
fn place(root: &Path, number: u8) -> PathBuf {
    match number / 4 {
        0 => root.join(format!("n{}", number % 4)),
        folder => root.join(format!("n{}/n{}", folder - 1, number % 4)),
    }
}

fn act(root: &Path, deed: &Deed) {
    let at = |number: &u8| place(root, *number);
    // Many deeds are impossible where they come; that is as good as another deed.
    match deed {
        Deed::Write(place, size, byte) => drop(fs::write(at(place), vec![*byte; *size])),
        Deed::Append(place, byte) => {
            let file = fs::OpenOptions::new().append(true).open(at(place));
            drop(file.and_then(|mut file| std::io::Write::write_all(&mut file, &[*byte; 100])));
        }
        Deed::Folder(place) => drop(fs::create_dir(at(place))),
        Deed::Remove(place) => drop(fs::remove_file(at(place)).or_else(|_| fs::remove_dir_all(at(place)))),
        Deed::Symlink(from, to) => drop(symlink(format!("n{from}"), at(to))),
        Deed::HardLink(from, to) => drop(fs::hard_link(at(from), at(to))),
        Deed::Mode(place, mode) => {
            if fs::symlink_metadata(at(place)).is_ok_and(|meta| !meta.is_symlink()) {
                drop(fs::set_permissions(at(place), fs::Permissions::from_mode(*mode)));
            }
        }
        Deed::Rename(from, to) => drop(fs::rename(at(from), at(to))),
        Deed::Round => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_is_done_both_ends_look_the_same(deeds in prop::collection::vec(deed(), 1..40)) {
        let mut pair = Pair::new();
        for deed in &deeds {
            act(pair.from.path(), deed);
            if matches!(deed, Deed::Round) {
                // A running container's round: what changed within a clock tick is looked at again.
                let Pair { tree, applier, to, .. } = &mut pair;
                tree.round(false, &mut |piece| give(applier, to.path(), piece)).expect("a round");
            }
        }
        pair.round();
        prop_assert_eq!(look(pair.from.path()), look(pair.to.path()));
    }

    #[test]
    fn any_bytes_are_refused_or_stay_inside(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(change) = Change::decode(&bytes) {
            prop_assert_eq!(Change::decode(&change.encode()).expect("again"), change);
        }
    }
}

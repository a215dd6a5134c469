//! What was packed, beside what has to be in it, on the disk: for the decoders that are programs.
//!
//! Need: a decoder that is started for each answer takes longer than promfront does. Rule: answers are put down as they come, and
//! each program reads all of them at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::Folder;

/// Two readers of Python. What follows a member, or lacks at its end, they would tell nobody who does not ask.
const PYTHON: &str = r#"
import gzip, sys, zlib
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        packed = file.read()
    with open(name[:-3], "rb") as file:
        want = file.read()
    for size in (len(packed), 61):
        reader, got, at = zlib.decompressobj(31), [], 0
        while at < len(packed):
            got.append(reader.decompress(packed[at:at + size]))
            at += size
            if size == 61 and at > 20000:
                size = 65536
        got.append(reader.flush())
        assert reader.eof, f"{name}: the stream does not end"
        assert reader.unused_data == b"", f"{name}: {len(reader.unused_data)} bytes follow"
        assert b"".join(got) == want, f"{name}: zlib reads something else"
    assert gzip.decompress(packed) == want, f"{name}: gzip reads something else"
"#;

/// Pairs of files, `number` and `number.gz`.
#[derive(Debug)]
pub struct Shelf {
    folder: Folder,
    count: AtomicUsize,
}

impl Shelf {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { folder: Folder::new("packed"), count: AtomicUsize::new(0) }
    }

    /// Puts a pair down.
    pub fn put(&self, packed: &[u8], plain: &[u8]) {
        let file = self.folder.path().join(format!("{:06}", self.count.fetch_add(1, Ordering::Relaxed)));
        fs::write(&file, plain).expect("a file");
        fs::write(file.with_extension("gz"), packed).expect("a file");
    }

    /// Python's `zlib` and `gzip`, `gzip -t` and `zcat` read each of them, and to the end.
    pub fn is_read_by_all(&self) {
        let packed: Vec<PathBuf> =
            (0..self.count.load(Ordering::Relaxed)).map(|i| self.folder.path().join(format!("{i:06}.gz"))).collect();
        assert!(!packed.is_empty(), "something was packed");
        let plain: Vec<PathBuf> = packed.iter().map(|file| file.with_extension("")).collect();
        runs(Command::new("python3").args(["-c", PYTHON]).args(&packed));
        runs(Command::new("gzip").arg("-t").args(&packed));
        let (got, want) = (self.folder.path().join("zcat"), self.folder.path().join("cat"));
        runs(Command::new("zcat").args(&packed).stdout(new(&got)));
        runs(Command::new("cat").args(&plain).stdout(new(&want)));
        runs(Command::new("cmp").args([got, want]));
        println!("{} answers were read by python3, gzip and zcat", packed.len());
    }
}

fn new(file: &Path) -> Stdio {
    Stdio::from(fs::File::create(file).expect("a file"))
}

/// It says nothing and ends well: a warning of `gzip` about what follows a member is a failure too.
fn runs(command: &mut Command) {
    let name = command.get_program().to_owned();
    let child = command.stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{}: {error}", name.display()));
    let output = child.wait_with_output().expect("it is our child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {} {said}", name.display(), output.status);
}

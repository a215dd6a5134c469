//! A page as bytes, for servers that may give back anything.
//!
//! What comes back is believed as little as what a stranger sends. A page is used only if it begins with the magic and the
//! version, is as long as it says, has its checksum, repeats the whole identity and the page's name that were asked for, says
//! how long its texts are before any memory is taken for them, and if these texts then pass the same scanner as a server's
//! answer, each on the instants that it claims, all of them in the page. Anything else is a miss, and why is counted.
//!
//! The form, little-endian: magic, version, checksum of all that follows, identity, slot, section; then each extent: fetch time,
//! reach, first and last instant, the length of its text, and the text (a range answer as it goes over the wire) compressed.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::extent::{Extent, Reads, Slot};
use super::page::Page;
use crate::merge::merge_series;
use crate::model::grid::StepGrid;
use crate::model::response::Piece;
use crate::model::time::Timestamp;
use crate::wire::response::{Writer, scan};

/// Entries of another version are never read, and do not lie under the same keys: replicas of two versions do not disturb
/// each other.
pub const VERSION: u8 = 1;
const MAGIC: [u8; 3] = *b"pf\xff";
/// Magic, version, checksum.
const HEAD: usize = 12;
/// The text of a page is not longer than this.
const MOST_TEXT_BYTES: u64 = 256 << 20;
/// A text that was compressed to less than a thousandth is not worth the risk that it is a bomb, unless it is small.
const MOST_RATIO: u64 = 1000;
const SMALL_TEXT_BYTES: u64 = 16 << 20;
/// zstd's fastest ordinary level; `benches/README.md` has the figures of the others.
const LEVEL: i32 = 1;

/// Why bytes are no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// They do not begin as a page of any version.
    Magic,
    /// It was written by another version.
    Version,
    /// They end too early, go on too long, or lengths in them contradict each other.
    Length,
    /// They were damaged.
    Checksum,
    /// It is sound, but of another query, tenant or page.
    Key,
    /// It says to be larger than may be.
    Size,
    /// A text in it is not what it says to be.
    Text,
}

impl Unreadable {
    /// As it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Magic => "magic",
            Self::Version => "version",
            Self::Length => "length",
            Self::Checksum => "checksum",
            Self::Key => "key",
            Self::Size => "size",
            Self::Text => "text",
        }
    }
}

/// The bytes of a page; none if it is larger than may be.
pub fn encode(version: u8, identity: &[u8], page: Page, slot: &Slot) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(version);
    bytes.extend_from_slice(&[0; 8]);
    put_bytes(&mut bytes, identity)?;
    bytes.extend_from_slice(&page.slot.to_le_bytes());
    bytes.push(page.section.map_or(u8::MAX, |section| section));
    bytes.push(u8::try_from(slot.extents().len()).ok()?);
    let mut whole_text = 0;
    for extent in slot.extents() {
        let nailed = extent.reads.nailed.map_or(i64::MIN, Timestamp::ms);
        let grid = &extent.answer.grid;
        for number in [extent.fetched_at.ms(), extent.reads.ahead_ms, nailed, grid.start().ms(), grid.last().ms()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let text = text(extent);
        whole_text += text.len() as u64;
        let packed = zstd::bulk::compress(&text, LEVEL).ok()?;
        if is_too_large(whole_text, text.len() as u64, packed.len() as u64) {
            return None;
        }
        bytes.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
        put_bytes(&mut bytes, &packed)?;
    }
    let checksum = xxh3_64(&bytes[HEAD..]);
    bytes[MAGIC.len() + 1..HEAD].copy_from_slice(&checksum.to_le_bytes());
    Some(bytes)
}

/// What bytes hold, which should be the page `page` of `identity`, whose instants are those of `grid`.
pub fn decode(version: u8, bytes: &[u8], identity: &[u8], page: Page, grid: &StepGrid) -> Result<Slot, Unreadable> {
    let mut reader = Reader(bytes);
    if reader.take(MAGIC.len()).ok_or(Unreadable::Length)? != MAGIC {
        return Err(Unreadable::Magic);
    }
    if reader.number::<1>().ok_or(Unreadable::Length)? != [version] {
        return Err(Unreadable::Version);
    }
    let checksum = u64::from_le_bytes(reader.number().ok_or(Unreadable::Length)?);
    if xxh3_64(reader.0) != checksum {
        return Err(Unreadable::Checksum);
    }
    let is_wanted = reader.bytes().ok_or(Unreadable::Length)? == identity
        && reader.i64().ok_or(Unreadable::Length)? == page.slot
        && reader.number::<1>().ok_or(Unreadable::Length)? == [page.section.map_or(u8::MAX, |section| section)];
    if !is_wanted {
        return Err(Unreadable::Key);
    }
    let [count] = reader.number::<1>().ok_or(Unreadable::Length)?;
    let (mut extents, mut whole_text) = (Vec::new(), 0);
    for _ in 0..count {
        extents.push(extent(&mut reader, grid, &mut whole_text)?);
    }
    if !reader.0.is_empty() {
        return Err(Unreadable::Length);
    }
    Slot::from_extents(extents, grid).ok_or(Unreadable::Text)
}

fn extent(reader: &mut Reader<'_>, lattice: &StepGrid, whole_text: &mut u64) -> Result<Extent, Unreadable> {
    let mut number = || reader.i64().ok_or(Unreadable::Length);
    let (fetched_at, ahead_ms, nailed, start, last) = (number()?, number()?, number()?, number()?, number()?);
    let length = u32::from_le_bytes(reader.number().ok_or(Unreadable::Length)?);
    let packed = reader.bytes().ok_or(Unreadable::Length)?;
    *whole_text += u64::from(length);
    if is_too_large(*whole_text, length.into(), packed.len() as u64) {
        return Err(Unreadable::Size);
    }
    let grid = StepGrid::new(Timestamp::from_ms(start), lattice.step(), Timestamp::from_ms(last));
    let grid = grid.filter(|grid| grid.last().ms() == last).ok_or(Unreadable::Text)?;
    let text = zstd::bulk::decompress(packed, length as usize).map_err(|_| Unreadable::Text)?;
    if text.len() != length as usize {
        return Err(Unreadable::Length);
    }
    let answer = scan(&Bytes::from(text), &grid).map_err(|_| Unreadable::Text)?;
    if answer.stats.is_some() || !answer.annotations.come_from_promql() {
        return Err(Unreadable::Text);
    }
    let nailed = (nailed != i64::MIN).then(|| Timestamp::from_ms(nailed));
    let (fetched_at, reads) = (Timestamp::from_ms(fetched_at), Reads { ahead_ms, nailed });
    Ok(Extent { answer: Arc::new(answer), fetched_at, reads })
}

fn is_too_large(whole: u64, text: u64, packed: u64) -> bool {
    whole > MOST_TEXT_BYTES || (text > SMALL_TEXT_BYTES && text / MOST_RATIO > packed)
}

/// An extent's answer as it would go over the wire.
fn text(extent: &Extent) -> Vec<u8> {
    let piece = Piece { grid: extent.answer.grid, answer: Arc::clone(&extent.answer) };
    let mut writer = Writer::new();
    merge_series(std::slice::from_ref(&piece), |series| writer.series(series));
    writer.finish(&extent.answer.annotations, None).concat()
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    to.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    to.extend_from_slice(bytes);
    Some(())
}

/// Bytes that are read from the front.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn i64(&mut self) -> Option<i64> {
        self.number().map(i64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = u32::from_le_bytes(self.number()?);
        self.take(length as usize)
    }
}

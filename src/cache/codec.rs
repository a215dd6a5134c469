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
use crate::model::whole::Packing;
use crate::wire::body::Writer;
use crate::wire::response::scan;

/// Entries of another version are never read, and do not lie under the same keys: replicas of two versions do not disturb
/// each other.
pub const VERSION: u8 = 1;
const MAGIC: [u8; 3] = *b"pf\xff";
/// Magic, version, checksum.
const HEAD: usize = 12;
/// The text of a page is not longer than this.
const MOST_TEXT_BYTES: u64 = 256 << 20;
/// Texts that were compressed to less than a thousandth are taken for a bomb, unless they are small. Ours are padded: what is
/// always `1` compresses better.
const MOST_RATIO: u64 = 1000;
const SMALL_TEXT_BYTES: u64 = 1 << 20;
/// What a frame begins with that a decompressor skips (RFC 8878).
const SKIPPED_FRAME: u32 = 0x184D_2A50;
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
    let (mut whole_text, mut whole_packed) = (0, 0);
    for extent in slot.extents() {
        let nailed = extent.reads.nailed.map_or(i64::MIN, Timestamp::ms);
        let grid = &extent.answer.grid;
        for number in [extent.fetched_at.ms(), extent.reads.ahead_ms, nailed, grid.start().ms(), grid.last().ms()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let text = text(extent);
        let mut packed = zstd::bulk::compress(&text, LEVEL).ok()?;
        whole_text += text.len() as u64;
        let fewest = if whole_text > SMALL_TEXT_BYTES { whole_text / MOST_RATIO } else { 0 };
        pad(&mut packed, fewest.saturating_sub(whole_packed));
        whole_packed += packed.len() as u64;
        if is_too_large(whole_text, whole_packed) {
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
    let (mut extents, mut sizes) = (Vec::new(), (0, 0));
    for _ in 0..count {
        extents.push(extent(&mut reader, grid, &mut sizes)?);
    }
    if !reader.0.is_empty() {
        return Err(Unreadable::Length);
    }
    Slot::from_extents(extents, grid).ok_or(Unreadable::Text)
}

/// Reads an extent of the page `page`. `sizes` are those of all texts so far, plain and compressed.
fn extent(reader: &mut Reader<'_>, page: &StepGrid, sizes: &mut (u64, u64)) -> Result<Extent, Unreadable> {
    let mut number = || reader.i64().ok_or(Unreadable::Length);
    let (fetched_at, ahead_ms, nailed, start, last) = (number()?, number()?, number()?, number()?, number()?);
    let length = u32::from_le_bytes(reader.number().ok_or(Unreadable::Length)?);
    let packed = reader.bytes().ok_or(Unreadable::Length)?;
    *sizes = (sizes.0 + u64::from(length), sizes.1 + packed.len() as u64);
    if is_too_large(sizes.0, sizes.1) {
        return Err(Unreadable::Size);
    }
    let grid = StepGrid::new(Timestamp::from_ms(start), page.step(), Timestamp::from_ms(last));
    let grid = grid.filter(|grid| grid.last().ms() == last && page.covers(grid)).ok_or(Unreadable::Text)?;
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
    Ok(Extent { answer: Arc::new(answer.packed_part(&grid)), fetched_at, reads })
}

/// Makes a compressed text at least so long, by a frame that is skipped when it is read.
fn pad(packed: &mut Vec<u8>, fewest: u64) {
    let missing = usize::try_from(fewest).unwrap_or(usize::MAX).saturating_sub(packed.len());
    if missing > 0 {
        let length = u32::try_from(missing).unwrap_or(u32::MAX);
        packed.extend_from_slice(&SKIPPED_FRAME.to_le_bytes());
        packed.extend_from_slice(&length.to_le_bytes());
        packed.resize(packed.len() + length as usize, 0);
    }
}

/// Whether texts of a page are too large together.
fn is_too_large(texts: u64, packed: u64) -> bool {
    texts > MOST_TEXT_BYTES || (texts > SMALL_TEXT_BYTES && texts / MOST_RATIO > packed)
}

/// An extent's answer as it would go over the wire.
fn text(extent: &Extent) -> Vec<u8> {
    let piece = Piece { grid: extent.answer.grid, answer: Arc::clone(&extent.answer) };
    let mut writer = Writer::new(Packing::Plain);
    merge_series(std::slice::from_ref(&piece), |series| writer.series(series));
    writer.finish(&extent.answer.annotations, None)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Step;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    const IDENTITY: &[u8] = b"\x02tenant, path, text and all that";
    const PAGE: Page = Page { slot: -3, section: Some(2) };
    const STEP_MS: i64 = 15_000;
    const METRICS: [&str; 5] = [
        "{}",
        r#"{"__name__":"up","job":"a\u0000\n b"}"#,
        r#"{"__name__":"up","job":"a\"]},[0,\"1\"]\\"}"#,
        r#"{"__name__":"up","job":"日本\ud83d\ude00é\u00ff"}"#,
        r#"{"__name__":"up","zone":""}"#,
    ];

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn grid(first: i64, last: i64) -> StepGrid {
        let step = Step::from_ms(STEP_MS).expect("a step");
        StepGrid::new(at(first * STEP_MS - 7), step, at(last * STEP_MS - 7)).expect("a grid")
    }

    /// The page of instants around the epoch.
    fn lattice() -> StepGrid {
        grid(-500, 500)
    }

    /// An answer with a sample where a bit of `shape` says so.
    fn body(grid: &StepGrid, shape: u64, annotations: &str) -> Bytes {
        let mut body = String::from(r#"{"status":"success","data":{"resultType":"matrix","result":["#);
        let mut is_first = true;
        for (number, metric) in METRICS.iter().enumerate() {
            let (mut floats, mut histograms) = (String::new(), String::new());
            for (i, t) in grid.instants().enumerate() {
                let bit = shape >> ((i * 7 + number * 13) % 61);
                let value = ["\"1\"", "\"-1.5e-07\"", "\"NaN\"", "\"+Inf\""][i % 4];
                match bit % 4 {
                    0 => write!(floats, "[{t},{value}],"),
                    1 => write!(histograms, r#"[{t},{{"count":"{i}","sum":"-0.5","buckets":[[3,"-1","1","2"]]}}],"#),
                    2 => write!(histograms, r#"[{t},{{"count":"0","sum":"0"}}],"#),
                    _ => Ok(()),
                }
                .expect("a String takes every write");
            }
            let lists = [("values", floats), ("histograms", histograms)];
            let lists: Vec<String> = lists
                .iter()
                .filter(|(_, list)| !list.is_empty())
                .map(|(kind, list)| format!(r#","{kind}":[{}]"#, list.trim_end_matches(',')))
                .collect();
            if !lists.is_empty() {
                let comma = if is_first { "" } else { "," };
                write!(body, r#"{comma}{{"metric":{metric}{}}}"#, lists.concat()).expect("a String takes every write");
                is_first = false;
            }
        }
        Bytes::from(format!("{body}]}}{annotations}}}"))
    }

    fn extent_of(grid: StepGrid, shape: u64, annotations: &str, fetched_at: i64, reads: Reads) -> Extent {
        let answer = scan(&body(&grid, shape, annotations), &grid).expect("a test writes an answer");
        Extent { answer: Arc::new(answer), fetched_at: at(fetched_at), reads }
    }

    fn any_extents() -> impl Strategy<Value = Vec<Extent>> {
        let annotations = prop::sample::select(vec![
            "",
            "",
            "",
            r#","warnings":["PromQL warning: é \"x\" (1:2)"]"#,
            r#","warnings":["PromQL warning: a","PromQL warning: b"],"infos":["PromQL info: c"]"#,
        ]);
        let reads = (prop_oneof![Just(0), any::<i64>()], prop::option::of((i64::MIN + 1)..=i64::MAX));
        let one = (1_i64..4, 0_i64..12, any::<u64>(), annotations, any::<i64>(), reads);
        prop::collection::vec(one, 0..=32).prop_map(|parts| {
            let mut next = -500;
            let mut extents = Vec::new();
            for (gap, length, shape, annotations, fetched_at, (ahead_ms, nailed)) in parts {
                let instants = grid(next + gap, next + gap + length);
                next += gap + length;
                let reads = Reads { ahead_ms, nailed: nailed.map(at) };
                extents.push(extent_of(instants, shape, annotations, fetched_at, reads));
            }
            extents
        })
    }

    fn slot(extents: Vec<Extent>) -> Slot {
        Slot::from_extents(extents, &lattice()).expect("they are disjoint and in order")
    }

    fn encoded(slot: &Slot) -> Vec<u8> {
        encode(VERSION, IDENTITY, PAGE, slot).expect("it is small")
    }

    fn decoded(bytes: &[u8]) -> Result<Slot, Unreadable> {
        decode(VERSION, bytes, IDENTITY, PAGE, &lattice())
    }

    type Content = (StepGrid, Timestamp, Reads, Vec<u8>);

    /// All that an extent says.
    fn content(slot: &Slot) -> Vec<Content> {
        let all = |extent: &Extent| (extent.answer.grid, extent.fetched_at, extent.reads, text(extent));
        slot.extents().iter().map(all).collect()
    }

    /// Some extents: floats, histograms, annotations, a gap, and nothing at all.
    fn small() -> Slot {
        let nailed = Reads { ahead_ms: 1, nailed: Some(at(-5)) };
        slot(vec![
            extent_of(grid(-1, 0), 0b10_0100, "", 7, Reads::default()),
            extent_of(grid(2, 2), u64::MAX, r#","infos":["PromQL info: x"]"#, -7, nailed),
        ])
    }

    /// Gives bytes the checksum that they should have.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some((head, rest)) = bytes.split_at_mut_checked(HEAD) {
            head[MAGIC.len() + 1..].copy_from_slice(&xxh3_64(rest).to_le_bytes());
        }
        bytes
    }

    /// What was believed is what a slot and the scanner promise.
    fn check_promises(slot: &Slot) {
        slot.check();
        let (mut last, lattice) = (i64::MIN, lattice());
        for extent in slot.extents() {
            let answer = &extent.answer;
            assert!(lattice.covers(&answer.grid) && answer.grid.start().ms() > last, "{:?}", answer.grid);
            last = answer.grid.last().ms();
            assert!(answer.stats.is_none() && answer.annotations.come_from_promql());
            let again = scan(&Bytes::from(text(extent)), &answer.grid).expect("it is an answer to its grid");
            assert_eq!(again.matrix.len(), answer.matrix.len());
            // Cutting relies on the shape.
            assert_eq!(answer.packed_part(&answer.grid).grid, answer.grid);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read(extents in any_extents()) {
            let slot = slot(extents);
            let read = decoded(&encoded(&slot)).expect("it was just written");
            prop_assert_eq!(content(&read), content(&slot));
            check_promises(&read);
        }

        #[test]
        fn no_damage_is_believed(extents in any_extents(), at in any::<prop::sample::Index>(), other in any::<u8>()) {
            let mut bytes = encoded(&slot(extents));
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != other);
            bytes[at] = other;
            prop_assert!(decoded(&bytes).is_err());
        }

        /// Whoever can write to the server can make a checksum too.
        #[test]
        fn forged_bytes_break_no_promise(
            extents in any_extents(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
            tail in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let mut bytes = encoded(&slot(extents));
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
            bytes.extend(tail);
            let _ = decoded(&sealed(bytes)).map(|slot| check_promises(&slot));
        }

        #[test]
        fn arbitrary_bytes_break_no_promise(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            starts_well in 0_usize..4,
        ) {
            let head = encoded(&small());
            let head = &head[..[0, MAGIC.len() + 1, HEAD, HEAD + 4 + IDENTITY.len() + 9][starts_well]];
            let _ = decoded(&sealed([head, &bytes].concat())).map(|slot| check_promises(&slot));
        }

        /// A page that is well-formed and lies about everything that it can lie about.
        #[test]
        fn well_formed_lies_break_no_promise(lies in prop::collection::vec(lie(), 0..4)) {
            let _ = decoded(&forge(&lies)).map(|slot| check_promises(&slot));
        }
    }

    /// An extent as it is written.
    #[derive(Clone, Debug)]
    struct Lie {
        numbers: [i64; 5],
        length: Option<u32>,
        text: Vec<u8>,
    }

    fn lie() -> impl Strategy<Value = Lie> {
        let edge = || prop::sample::select(vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX]);
        let instant =
            || prop_oneof![4 => (-520_i64..520).prop_map(|i| i * STEP_MS - 7), 1 => edge(), 1 => any::<i64>()];
        let number = || prop_oneof![any::<i64>(), edge()];
        let text = prop_oneof![
            3 => ((-500_i64..500), (0_i64..9), any::<u64>()).prop_map(|(first, length, shape)| {
                body(&grid(first, first + length), shape, "").to_vec()
            }),
            1 => prop::sample::select(vec![
                r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["no"]}"#,
                r#"{"status":"success","data":{"resultType":"matrix","result":[],"stats":{}}}"#,
                r#"{"status":"error"}"#,
                "",
            ]).prop_map(|text| text.as_bytes().to_vec()),
        ];
        let length = prop_oneof![4 => Just(None), 1 => any::<u32>().prop_map(Some), 1 => (0_u32..300).prop_map(Some)];
        ((number(), number(), number(), instant(), instant()), length, text).prop_map(
            |((fetched, ahead, nailed, start, last), length, text)| Lie {
                numbers: [fetched, ahead, nailed, start, last],
                length,
                text,
            },
        )
    }

    fn forge(lies: &[Lie]) -> Vec<u8> {
        let mut bytes = encoded(&Slot::default());
        *bytes.last_mut().expect("the count of extents") = u8::try_from(lies.len()).expect("few");
        for lie in lies {
            lie.numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
            let length = lie.length.unwrap_or(u32::try_from(lie.text.len()).expect("short"));
            bytes.extend_from_slice(&length.to_le_bytes());
            put_bytes(&mut bytes, &zstd::bulk::compress(&lie.text, LEVEL).expect("zstd takes all")).expect("short");
        }
        sealed(bytes)
    }

    fn honest(first: i64, last: i64) -> Lie {
        let grid = grid(first, last);
        let numbers = [1, 0, i64::MIN, grid.start().ms(), grid.last().ms()];
        Lie { numbers, length: None, text: body(&grid, 0, "").to_vec() }
    }

    #[test]
    fn extents_lie_in_their_page_in_order_and_on_its_lattice() {
        let read = |lies: &[Lie]| decoded(&forge(lies)).map(|slot| slot.extents().len());
        assert_eq!(read(&[honest(0, 3), honest(4, 9)]), Ok(2), "forging works");
        assert_eq!(read(&[honest(-500, 500)]), Ok(1));
        for (lies, what) in [
            (vec![honest(-501, 0)], "before the page"),
            (vec![honest(0, 501)], "after the page"),
            (vec![honest(600, 601)], "outside of the page"),
            (vec![honest(0, 3), honest(3, 9)], "overlapping"),
            (vec![honest(0, 3), honest(0, 3)], "twice"),
            (vec![honest(4, 9), honest(0, 3)], "out of order"),
            (vec![Lie { numbers: [1, 0, 0, 0, STEP_MS], ..honest(0, 1) }], "off the lattice"),
            (vec![Lie { numbers: [1, 0, 0, -7, STEP_MS - 6], ..honest(0, 1) }], "the last off the lattice"),
            (vec![Lie { numbers: [1, 0, 0, -7, -7 - STEP_MS], ..honest(0, 1) }], "backwards"),
            (vec![Lie { numbers: [1, 0, 0, i64::MIN + 5, -7], ..honest(0, 1) }], "at the edge of time"),
            (vec![Lie { text: body(&grid(0, 2), 0, "").to_vec(), ..honest(0, 1) }], "more samples than instants"),
            (vec![Lie { text: body(&grid(0, 1), 0, r#","warnings":["x"]"#).to_vec(), ..honest(0, 1) }], "a warning"),
            (
                vec![Lie {
                    text: br#"{"status":"success","data":{"resultType":"matrix","result":[],"stats":{}}}"#.to_vec(),
                    ..honest(0, 1)
                }],
                "statistics",
            ),
            ((0..33).map(|i| honest(i, i)).collect(), "too many"),
        ] {
            assert_eq!(read(&lies), Err(Unreadable::Text), "{what}");
        }
        assert_eq!(read(&(0..32).map(|i| honest(i, i)).collect::<Vec<_>>()), Ok(32));
        let length = |length| Lie { length: Some(length), ..honest(0, 1) };
        let own = u32::try_from(honest(0, 1).text.len()).expect("short");
        assert_eq!(read(&[length(own)]), Ok(1));
        assert_eq!(read(&[length(own + 1)]), Err(Unreadable::Length));
        assert_eq!(read(&[length(own - 1)]), Err(Unreadable::Text));
        assert_eq!(read(&[length(u32::MAX)]), Err(Unreadable::Size));
    }

    #[test]
    fn what_is_truncated_or_goes_on_is_nothing() {
        for slot in [small(), Slot::default()] {
            let bytes = encoded(&slot);
            for length in 0..bytes.len() {
                let refused = decoded(&bytes[..length]).expect_err("it was cut");
                assert!(matches!(refused, Unreadable::Length | Unreadable::Checksum), "{length}: {refused:?}");
                // A checksum that fits what is left does not make it whole.
                assert!(decoded(&sealed(bytes[..length].to_vec())).is_err(), "{length}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decoded(&longer).err(), Some(Unreadable::Checksum));
            assert_eq!(decoded(&sealed(longer)).err(), Some(Unreadable::Length));
        }
    }

    #[test]
    fn no_flipped_bit_is_believed() {
        let bytes = encoded(&small());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let want = match bit / 8 {
                0..3 => Unreadable::Magic,
                3 => Unreadable::Version,
                _ => Unreadable::Checksum,
            };
            assert_eq!(decoded(&flipped).err(), Some(want), "bit {bit}");
            let _ = decoded(&sealed(flipped)).map(|slot| check_promises(&slot));
        }
    }

    #[test]
    fn what_is_sound_but_of_something_else_has_its_reason() {
        let bytes = encoded(&small());
        assert_eq!(decoded(&bytes).map(|slot| content(&slot)), Ok(content(&small())));
        let read = |version, identity: &[u8], page| decode(version, &bytes, identity, page, &lattice()).err();
        let longer = [IDENTITY, b"\0"].concat();
        for (version, identity, page, want) in [
            (VERSION + 1, IDENTITY, PAGE, Unreadable::Version),
            (VERSION - 1, IDENTITY, PAGE, Unreadable::Version),
            (VERSION, &b"\x02another, path, text and all that"[..], PAGE, Unreadable::Key),
            (VERSION, &IDENTITY[..IDENTITY.len() - 1], PAGE, Unreadable::Key),
            (VERSION, &longer, PAGE, Unreadable::Key),
            (VERSION, &[], PAGE, Unreadable::Key),
            (VERSION, IDENTITY, Page { slot: -2, ..PAGE }, Unreadable::Key),
            (VERSION, IDENTITY, Page { slot: 3, ..PAGE }, Unreadable::Key),
            (VERSION, IDENTITY, Page { section: Some(3), ..PAGE }, Unreadable::Key),
            (VERSION, IDENTITY, Page { section: None, ..PAGE }, Unreadable::Key),
        ] {
            assert_eq!(read(version, identity, page), Some(want), "{version} {page}");
        }
        let whole = encode(VERSION, IDENTITY, Page { section: None, ..PAGE }, &small()).expect("it is small");
        assert_eq!(decoded(&whole).err(), Some(Unreadable::Key), "the whole slot is no section");
        assert_eq!(decoded(b"").err(), Some(Unreadable::Length));
        assert_eq!(decoded(b"VALUE promfront 0 3").err(), Some(Unreadable::Magic));
    }

    #[test]
    fn each_reason_has_a_word_of_its_own() {
        use Unreadable::{Checksum, Key, Length, Magic, Size, Text, Version};
        let words: std::collections::BTreeSet<_> =
            [Magic, Version, Length, Checksum, Key, Size, Text].iter().map(|why| why.as_str()).collect();
        assert_eq!(words.len(), 7);
    }

    /// What says to be larger than may be is refused before anything is made of it, and is not written.
    #[test]
    fn sizes_are_bounded() {
        const MIB: u64 = 1 << 20;
        for (whole, packed, is_refused) in [
            (0, 0, false),
            (MIB, 0, false),
            (MIB + 1, 0, true),
            (100 * MIB, 100 * MIB / 1000, false),
            (100 * MIB, 100 * MIB / 1000 - 1, true),
            (256 * MIB, 256 * MIB, false),
            (256 * MIB + 1, 256 * MIB, true),
            (u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(is_too_large(whole, packed), is_refused, "{whole} from {packed}");
        }
        // Each of these extents is small; together they are a bomb.
        let label = "x".repeat(1 << 19);
        let one = |i| {
            let t = grid(i, i).start();
            let text = format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"a":"{label}"}},"values":[[{t},"1"]]}}]}}}}"#
            );
            Lie { text: text.into_bytes(), ..honest(i, i) }
        };
        assert!(decoded(&forge(&[one(0)])).is_ok());
        assert_eq!(decoded(&forge(&[one(0), one(1), one(2)])).err(), Some(Unreadable::Size));
        // Ours are padded.
        let answer = |i: i64| {
            let answer = scan(&Bytes::from(one(i).text), &grid(i, i)).expect("it is an answer");
            Extent { answer: Arc::new(answer), fetched_at: at(0), reads: Reads::default() }
        };
        for count in [1, 2, 3, 32] {
            let slot = slot((0..count).map(answer).collect());
            let bytes = encoded(&slot);
            assert_eq!(decoded(&bytes).map(|slot| slot.extents().len()), Ok(slot.extents().len()));
            assert!(bytes.len() < slot.weight() / 900 + 4096, "{} of {}", bytes.len(), slot.weight());
        }
    }
}

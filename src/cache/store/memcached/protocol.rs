//! The classic text protocol: what is written to a memcached server, and what is understood of its answers.
//!
//! What a server says is never trusted with memory: a value that was not asked for, or is longer than any that we write, is refused
//! before its first byte is read.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::Future;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::tcp::ReadHalf;

use super::super::{Item, Loss, Read, Write};

/// A longer time to live would be taken for a date.
const MAX_TTL_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Memcached's own bound, in bytes.
const MAX_KEY: usize = 250;
/// No line of an answer is longer, in bytes.
const MAX_LINE: usize = 512;
/// A value up to this many bytes is copied to stand in one write with what is around it.
const COPIED: usize = 16 << 10;
/// The room that is made for bytes before they come: at least and at most. A buffer that is full doubles.
const ROOM: (usize, usize) = (16 << 10, 64 << 10);

/// Commands that go together, and what has become of them so far.
pub(super) trait Batch: Send {
    /// The commands; the same each time.
    fn request(&self) -> Vec<Bytes>;

    /// Reads the whole answer. What was understood before it breaks off stays.
    fn take(&mut self, replies: &mut Replies<ReadHalf<'_>>) -> impl Future<Output = Result<(), Loss>> + Send;
}

/// A `get` of several keys.
#[derive(Debug)]
pub(super) struct Gets<'k> {
    keys: &'k [String],
    /// What came for each of them.
    values: HashMap<&'k [u8], Option<Bytes>>,
    command: Bytes,
    max_value_bytes: usize,
}

impl<'k> Gets<'k> {
    pub(super) fn new(keys: &'k [String], max_value_bytes: usize) -> Self {
        let mut values = HashMap::with_capacity(keys.len());
        let mut command = BytesMut::from("get");
        for key in keys {
            debug_assert!(is_key(key), "{key:?}");
            if values.insert(key.as_bytes(), None).is_none() {
                command.extend_from_slice(b" ");
                command.extend_from_slice(key.as_bytes());
            }
        }
        command.extend_from_slice(b"\r\n");
        Self { keys, values, command: command.freeze(), max_value_bytes }
    }

    async fn read<R: AsyncRead + Unpin>(&mut self, replies: &mut Replies<R>) -> Result<(), Loss> {
        loop {
            let line = replies.line().await?;
            let line_bytes = line.len() + 2;
            if line == b"END" {
                replies.buffer.advance(line_bytes);
                return Ok(());
            }
            let (key, bytes) = value_head(line).ok_or_else(|| loss_of(line))?;
            let Some(value @ None) = self.values.get_mut(key) else { return Err(Loss::Garbage) };
            if bytes > self.max_value_bytes {
                return Err(Loss::Garbage);
            }
            replies.buffer.advance(line_bytes);
            *value = Some(replies.block(bytes).await?);
        }
    }

    pub(super) fn outcomes(self, outcome: Result<(), Loss>) -> Vec<Read> {
        let rest = outcome.map_or_else(Read::Lost, |()| Read::Absent);
        let of = |key: &String| self.values.get(key.as_bytes()).cloned().flatten().map_or(rest.clone(), Read::Value);
        self.keys.iter().map(of).collect()
    }
}

impl Batch for Gets<'_> {
    fn request(&self) -> Vec<Bytes> {
        vec![self.command.clone()]
    }

    async fn take(&mut self, replies: &mut Replies<ReadHalf<'_>>) -> Result<(), Loss> {
        self.read(replies).await
    }
}

/// Several `set`s, one after the other.
#[derive(Debug)]
pub(super) struct Sets<'i> {
    items: &'i [Item],
    /// The indices of those that are not too long.
    sent: Vec<usize>,
    /// What became of the first of these.
    answers: Vec<Write>,
}

impl<'i> Sets<'i> {
    pub(super) fn new(items: &'i [Item], max_value_bytes: usize) -> Self {
        let sent = (0..items.len()).filter(|index| items[*index].value.len() <= max_value_bytes).collect();
        Self { items, sent, answers: Vec::new() }
    }

    /// Whether there is nothing to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    async fn read<R: AsyncRead + Unpin>(&mut self, replies: &mut Replies<R>) -> Result<(), Loss> {
        // A second attempt has nothing from the first: there was no byte of an answer.
        while self.answers.len() < self.sent.len() {
            let line = replies.line().await?;
            self.answers.push(match line {
                b"STORED" => Write::Stored,
                // The server has read the value to its end, and goes on with the next one.
                b"NOT_STORED"
                | b"SERVER_ERROR object too large for cache"
                | b"SERVER_ERROR out of memory storing object"
                | b"SERVER_ERROR Out of memory during read" => Write::Lost(Loss::Refused),
                line => return Err(loss_of(line)),
            });
            let line_bytes = line.len() + 2;
            replies.buffer.advance(line_bytes);
        }
        Ok(())
    }

    pub(super) fn outcomes(self, outcome: Result<(), Loss>) -> Vec<Write> {
        let mut outcomes = vec![Write::Lost(Loss::Refused); self.items.len()];
        for (position, index) in self.sent.into_iter().enumerate() {
            // With a sound outcome there is an answer to each.
            let rest = Write::Lost(outcome.err().unwrap_or(Loss::Garbage));
            outcomes[index] = self.answers.get(position).copied().unwrap_or(rest);
        }
        outcomes
    }
}

impl Batch for Sets<'_> {
    fn request(&self) -> Vec<Bytes> {
        let (mut parts, mut text) = (Vec::new(), BytesMut::new());
        for Item { key, value, ttl } in self.sent.iter().map(|index| &self.items[*index]) {
            debug_assert!(is_key(key), "{key:?}");
            let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0)).clamp(1, MAX_TTL_SECONDS);
            write!(text, "set {key} 0 {seconds} {}\r\n", value.len()).expect("a buffer takes everything");
            if value.len() <= COPIED {
                text.extend_from_slice(value);
            } else {
                parts.extend([text.split().freeze(), value.clone()]);
            }
            text.extend_from_slice(b"\r\n");
        }
        parts.push(text.freeze());
        parts
    }

    async fn take(&mut self, replies: &mut Replies<ReadHalf<'_>>) -> Result<(), Loss> {
        self.read(replies).await
    }
}

/// What a server sends.
#[derive(Debug)]
pub(super) struct Replies<R> {
    from: R,
    /// What has come and was not understood yet.
    buffer: BytesMut,
    is_begun: bool,
}

impl<R: AsyncRead + Unpin> Replies<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new(), is_begun: false }
    }

    /// Whether any of the answer has come.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether more has come than was understood.
    pub(super) fn has_rest(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next line without its end. It stays in the buffer.
    async fn line(&mut self) -> Result<&[u8], Loss> {
        let mut searched = 0;
        let end = loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                break searched + found;
            }
            searched = self.buffer.len();
            if searched >= MAX_LINE {
                return Err(Loss::Garbage);
            }
            self.fill(MAX_LINE - searched).await?;
        };
        let line = self.buffer[..end].strip_suffix(b"\r").ok_or(Loss::Garbage)?;
        if line.len() > MAX_LINE { Err(Loss::Garbage) } else { Ok(line) }
    }

    /// The next `bytes` bytes, which a line end must follow.
    async fn block(&mut self, bytes: usize) -> Result<Bytes, Loss> {
        let whole = bytes + 2;
        while self.buffer.len() < whole {
            self.fill(whole - self.buffer.len()).await?;
        }
        if self.buffer[bytes..whole] != *b"\r\n" {
            return Err(Loss::Garbage);
        }
        let value = self.buffer.split_to(bytes).freeze();
        self.buffer.advance(2);
        Ok(value)
    }

    /// Waits for more bytes, of which `missing` are known to be needed. The room for them grows as they come.
    async fn fill(&mut self, missing: usize) -> Result<(), Loss> {
        let (least, most) = ROOM;
        self.buffer.reserve(missing.clamp(least, most));
        match self.from.read_buf(&mut self.buffer).await {
            Ok(1..) => self.is_begun = true,
            Ok(0) | Err(_) => return Err(Loss::Unavailable),
        }
        Ok(())
    }
}

/// The key and the length from `VALUE key flags length`.
fn value_head(line: &[u8]) -> Option<(&[u8], usize)> {
    let mut fields = line.strip_prefix(b"VALUE ")?.split(|byte| *byte == b' ');
    let (key, flags, bytes) = (fields.next()?, fields.next()?, fields.next()?);
    number(flags)?;
    let bytes = usize::try_from(number(bytes)?).ok()?;
    fields.next().is_none().then_some((key, bytes))
}

/// Digits and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// What it means that a line stands where none was expected that is like it.
fn loss_of(line: &[u8]) -> Loss {
    let is_error = [b"ERROR".as_slice(), b"CLIENT_ERROR", b"SERVER_ERROR"]
        .into_iter()
        .any(|error| line.strip_prefix(error).is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ")));
    if is_error { Loss::Refused } else { Loss::Garbage }
}

fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    const REPLY: &[u8] = b"VALUE a 0 3\r\nxyz\r\nVALUE b 7 7\r\n\r\nEND\r\n\r\nVALUE c 0 0\r\n\r\nEND\r\n";

    fn keys(names: &str) -> Vec<String> {
        names.chars().map(String::from).collect()
    }

    async fn understood(names: &str, from: impl AsyncRead + Unpin) -> (Vec<Read>, Result<(), Loss>) {
        let keys = keys(names);
        let (mut gets, mut replies) = (Gets::new(&keys, 1 << 20), Replies::new(from));
        let outcome = gets.read(&mut replies).await;
        (gets.outcomes(outcome), outcome)
    }

    fn value(text: &'static str) -> Read {
        Read::Value(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_reply_is_understood_in_pieces_of_any_size() {
        let want = vec![value("xyz"), value("\r\nEND\r\n"), value(""), Read::Absent];
        for size in 1..=REPLY.len() {
            let (mut server, client) = tokio::io::duplex(size);
            let (got, ()) = futures::join!(understood("abcd", client), async {
                server.write_all(REPLY).await.expect("it is read");
            });
            assert_eq!(got, (want.clone(), Ok(())), "pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_reply_that_ends_early_gives_what_had_come_whole() {
        let values = [(18, value("xyz")), (40, value("\r\nEND\r\n")), (55, value(""))];
        for cut in 0..REPLY.len() {
            let want: Vec<_> = values
                .iter()
                .map(|(whole, value)| if cut >= *whole { value.clone() } else { Read::Lost(Loss::Unavailable) })
                .collect();
            assert_eq!(understood("abc", &REPLY[..cut]).await, (want, Err(Loss::Unavailable)), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_garbage_and_errors_are_refusals() {
        let (line_too_long, line_without_end) = ([b"x".repeat(513), b"\r\n".to_vec()].concat(), b"x".repeat(600));
        for (reply, want) in [
            (b"VALUE a 0 4294967296\r\n".as_slice(), Loss::Garbage),
            (b"VALUE a 0 99999999999999999999999\r\n", Loss::Garbage),
            (b"VALUE a 0 1048577\r\n", Loss::Garbage),
            (b"VALUE a 0 -1\r\n", Loss::Garbage),
            (b"VALUE a 0 +1\r\nx\r\n", Loss::Garbage),
            (b"VALUE a 0 \r\n\r\n", Loss::Garbage),
            (b"VALUE a 0\r\n\r\n", Loss::Garbage),
            (b"VALUE a x 1\r\nx\r\n", Loss::Garbage),
            (b"VALUE a 0 1 5\r\nx\r\n", Loss::Garbage),
            (b"VALUE  0 1\r\nx\r\n", Loss::Garbage),
            (b"VALUE other 0 1\r\nx\r\n", Loss::Garbage),
            (b"VALUE a 0 1\r\nxy\r\n", Loss::Garbage),
            (b"VALUE a 0 1\nx\n", Loss::Garbage),
            (b"END\n", Loss::Garbage),
            (b"\r\n", Loss::Garbage),
            (b"STORED\r\n", Loss::Garbage),
            (b"end\r\n", Loss::Garbage),
            (b"ERRORS\r\n", Loss::Garbage),
            (b"HTTP/1.1 400 Bad Request\r\n", Loss::Garbage),
            (&line_too_long, Loss::Garbage),
            (&line_without_end, Loss::Garbage),
            (b"ERROR\r\n", Loss::Refused),
            (b"ERROR Too many open connections\r\n", Loss::Refused),
            (b"CLIENT_ERROR bad command line format\r\n", Loss::Refused),
            (b"SERVER_ERROR out of memory writing get response\r\n", Loss::Refused),
        ] {
            let (reads, outcome) = understood("a", reply).await;
            assert_eq!((reads, outcome), (vec![Read::Lost(want)], Err(want)), "{}", reply.escape_ascii());
        }
        let twice = b"VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\ny\r\nEND\r\n".as_slice();
        assert_eq!(understood("ab", twice).await.0, [value("x"), Read::Lost(Loss::Garbage)]);
    }

    #[tokio::test]
    async fn a_length_makes_no_room_before_its_bytes_come() {
        let keys = keys("a");
        let (mut server, client) = tokio::io::duplex(4 << 20);
        let (mut gets, mut replies) = (Gets::new(&keys, 1 << 30), Replies::new(client));
        server.write_all(b"VALUE a 0 1000000000\r\n").await.expect("there is room");
        for come in [10, 100_000, 1_000_000] {
            server.write_all(&vec![0; come]).await.expect("there is room");
            // Taken up where it was left: the head is understood in the first round only.
            let mut reading = Box::pin(async {
                if come == 10 {
                    gets.read(&mut replies).await.map(|()| Bytes::new())
                } else {
                    replies.block(1_000_000_000).await
                }
            });
            assert!(futures::poll!(&mut reading).is_pending(), "not all of it has come");
            drop(reading);
            let (held, room) = (replies.buffer.len(), replies.buffer.capacity());
            assert!(held >= come && room <= 2 * (held + ROOM.1), "{room} bytes of room for {held}");
        }
    }

    #[tokio::test]
    async fn a_refused_item_is_not_the_end_of_the_batch() {
        let item =
            |key: &str, bytes| Item { key: key.to_owned(), value: vec![b'x'; bytes].into(), ttl: Duration::ZERO };
        let items = [item("a", 3), item("b", 101), item("c", 100), item("d", 0), item("e", 1)];
        let (refused, garbage) = (Write::Lost(Loss::Refused), Write::Lost(Loss::Garbage));
        for (reply, want, outcome) in [
            (
                "STORED\r\nSERVER_ERROR out of memory storing object\r\nNOT_STORED\r\nSTORED\r\n",
                [Write::Stored, refused, refused, refused, Write::Stored],
                Ok(()),
            ),
            (
                "STORED\r\nSTORED\r\nEND\r\n",
                [Write::Stored, refused, Write::Stored, garbage, garbage],
                Err(Loss::Garbage),
            ),
            ("STORED\r\nERROR\r\n", [Write::Stored, refused, refused, refused, refused], Err(Loss::Refused)),
        ] {
            let (mut sets, mut replies) = (Sets::new(&items, 100), Replies::new(reply.as_bytes()));
            assert_eq!(sets.read(&mut replies).await, outcome, "{reply}");
            assert_eq!(sets.outcomes(outcome), want, "{reply}");
        }
    }

    #[test]
    fn commands_on_the_wire() {
        let keys = keys("abab");
        assert_eq!(Gets::new(&keys, 0).request(), ["get a b\r\n"], "each key once");
        let large = Bytes::from(vec![b'x'; COPIED + 1]);
        let item = |key: &str, value: &Bytes, ttl| Item { key: key.to_owned(), value: value.clone(), ttl };
        let items = [
            item("a", &Bytes::from_static(b"1"), Duration::ZERO),
            item("b", &large, Duration::from_millis(1001)),
            item("c", &Bytes::new(), Duration::MAX),
        ];
        let want = ["set a 0 1 1\r\n1\r\nset b 0 2 16385\r\n".into(), large, "\r\nset c 0 2592000 0\r\n\r\n".into()];
        assert_eq!(Sets::new(&items, 1 << 20).request(), want);
    }
}

//! Requests and replies, cut from a stream of bytes: RESP 2 and 3, and memcached's text and meta commands.
//!
//! Need: whoever tampers with one reply must know where it ends, which request it answers, and which of its bytes are values.
//! Rule: nothing is interpreted beyond that, and a frame that nobody tampers with is passed byte for byte. What is neither of
//! the two (TLS) is cut where the reads happen to end.
//! Not here: memcached's binary protocol, its quiet meta commands (which answer only sometimes), and RESP's inline commands.

use std::ops::Range;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Redis.
    Resp,
    /// memcached, in text.
    Memcached,
    /// Bytes that are none of our business.
    Opaque,
}

/// What a client wants, as far as faults tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A connection.
    Connect,
    /// Values.
    Read,
    /// That values be stored or removed.
    Write,
    /// Everything that prepares or watches a connection: HELLO, AUTH, CLIENT, CLUSTER, PING, version.
    Other,
}

/// A whole request or reply.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// As it was sent.
    pub bytes: Vec<u8>,
    values: Vec<Value>,
}

/// A part of a frame whose length is told before it.
#[derive(Clone, Debug)]
struct Value {
    /// Where the digits of its length are.
    length: Range<usize>,
    data: Range<usize>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// As it was sent.
    pub bytes: Vec<u8>,
    /// Its first word, in small letters.
    pub verb: String,
    /// What it is.
    pub call: Call,
    /// So many bytes of values are to be stored.
    pub value_bytes: usize,
    /// Whether a reply follows.
    pub is_answered: bool,
}

impl Protocol {
    /// A client gives itself away by its first byte.
    pub fn of(first: u8) -> Self {
        match first {
            b'*' => Self::Resp,
            b'a'..=b'z' => Self::Memcached,
            _ => Self::Opaque,
        }
    }

    /// Takes a whole request off the front of what was received.
    pub fn take_request(self, received: &mut Vec<u8>) -> Option<Request> {
        let frame = self.take(received, memcached_request)?;
        let words: Vec<&[u8]> = match self {
            Self::Resp => frame.values().collect(),
            Self::Memcached => split(&frame.bytes[line(&frame.bytes, 0)?]).collect(),
            Self::Opaque => Vec::new(),
        };
        let verb = words.first().map(|verb| String::from_utf8_lossy(verb).to_lowercase()).unwrap_or_default();
        let value_bytes = match (self, verb.as_str()) {
            (Self::Memcached, _) => frame.values().map(<[u8]>::len).sum(),
            (Self::Resp, "set") => words.get(2).map_or(0, |value| value.len()),
            (Self::Resp, "setex" | "psetex") => words.get(3).map_or(0, |value| value.len()),
            _ => 0,
        };
        let is_answered = !(self == Self::Memcached && words.last() == Some(&b"noreply".as_slice()));
        Some(Request { call: call(&verb), verb, value_bytes, is_answered, bytes: frame.bytes })
    }

    /// Takes a whole reply off the front of what was received.
    pub fn take_reply(self, received: &mut Vec<u8>) -> Option<Frame> {
        self.take(received, memcached_reply)
    }

    fn take(self, received: &mut Vec<u8>, memcached: Cut) -> Option<Frame> {
        let (end, values) = match self {
            Self::Resp => resp(received)?,
            Self::Memcached => memcached(received)?,
            Self::Opaque if received.is_empty() => return None,
            Self::Opaque => (received.len(), Vec::new()),
        };
        Some(Frame { bytes: received.drain(..end).collect(), values })
    }
}

impl Frame {
    /// The values in it, in their order.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.values.iter().map(|value| &self.bytes[value.data.clone()])
    }

    /// The same frame with other values in it, and with their lengths.
    pub fn with_values(&self, mut change: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
        let (mut changed, mut copied) = (Vec::with_capacity(self.bytes.len()), 0);
        for value in &self.values {
            let mut data = self.bytes[value.data.clone()].to_vec();
            change(&mut data);
            changed.extend_from_slice(&self.bytes[copied..value.length.start]);
            changed.extend_from_slice(data.len().to_string().as_bytes());
            changed.extend_from_slice(&self.bytes[value.length.end..value.data.start]);
            changed.extend_from_slice(&data);
            copied = value.data.end;
        }
        changed.extend_from_slice(&self.bytes[copied..]);
        changed
    }

    /// Whether the server sent it unasked.
    pub fn is_push(&self) -> bool {
        self.bytes.first() == Some(&b'>')
    }
}

fn call(verb: &str) -> Call {
    match verb {
        "get" | "mget" | "gets" | "gat" | "gats" | "mg" | "getex" => Call::Read,
        "set" | "setex" | "psetex" | "del" | "unlink" | "expire" | "pexpire" | "add" | "replace" | "cas" | "delete"
        | "touch" | "ms" | "md" => Call::Write,
        _ => Call::Other,
    }
}

/// Where the first frame ends, and its values; nothing if it is not whole.
type Cut = fn(&[u8]) -> Option<(usize, Vec<Value>)>;

fn resp(bytes: &[u8]) -> Option<(usize, Vec<Value>)> {
    let (mut at, mut values, mut missing) = (0, Vec::new(), 1);
    while missing > 0 {
        missing -= 1;
        let head = line(bytes, at)?;
        at = head.end + 2;
        let length = head.start + 1..head.end;
        // A length of -1 is a null.
        let count = number(bytes, &length);
        match (bytes.get(head.start)?, count) {
            (b'$' | b'=' | b'!', Some(count)) => at = push(&mut values, bytes, length, at, count)?,
            (b'*' | b'~' | b'>', Some(count)) => missing += count,
            (b'%', Some(count)) => missing += 2 * count,
            // Attributes stand before what they belong to.
            (b'|', Some(count)) => missing += 2 * count + 1,
            _ => {}
        }
    }
    Some((at, values))
}

fn memcached_request(bytes: &[u8]) -> Option<(usize, Vec<Value>)> {
    let head = line(bytes, 0)?;
    let (at, mut values) = (head.end + 2, Vec::new());
    let length = match &bytes[word(bytes, &head, 0)?] {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => word(bytes, &head, 4)?,
        b"ms" => word(bytes, &head, 2)?,
        _ => return Some((at, values)),
    };
    let end = match number(bytes, &length) {
        Some(count) => push(&mut values, bytes, length, at, count)?,
        None => at,
    };
    Some((end, values))
}

fn memcached_reply(bytes: &[u8]) -> Option<(usize, Vec<Value>)> {
    let (mut at, mut values) = (0, Vec::new());
    loop {
        let head = line(bytes, at)?;
        at = head.end + 2;
        let (number_of_length, has_more) = match &bytes[word(bytes, &head, 0)?] {
            b"VALUE" => (3, true),
            b"VA" => (1, false),
            b"STAT" => continue,
            _ => return Some((at, values)),
        };
        let length = word(bytes, &head, number_of_length)?;
        let count = number(bytes, &length)?;
        at = push(&mut values, bytes, length, at, count)?;
        if !has_more {
            return Some((at, values));
        }
    }
}

/// Notes a value that begins at `start`, if all of it is there; returns where the next thing begins.
fn push(values: &mut Vec<Value>, bytes: &[u8], length: Range<usize>, start: usize, count: usize) -> Option<usize> {
    let end = start + count;
    values.push(Value { length, data: start..end });
    (bytes.len() >= end + 2).then_some(end + 2)
}

/// A line from `start` on, without its end.
fn line(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let length = bytes.get(start..)?.windows(2).position(|two| two == b"\r\n")?;
    Some(start..start + length)
}

fn word(bytes: &[u8], line: &Range<usize>, number: usize) -> Option<Range<usize>> {
    let mut start = line.start;
    for (i, word) in split(&bytes[line.clone()]).enumerate() {
        if i == number {
            return Some(start..start + word.len());
        }
        start += word.len() + 1;
    }
    None
}

fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ')
}

fn number(bytes: &[u8], digits: &Range<usize>) -> Option<usize> {
    std::str::from_utf8(&bytes[digits.clone()]).ok()?.parse().ok()
}

//! What is asked of a server, and what its replies mean.
//!
//! Each question knows the shape of its reply. An error reply is a reply: the server is there and said no. A reply of
//! another shape means that this is no Redis, or that question and reply have lost each other.

use bytes::Bytes;
use redis::{Cmd, ServerErrorKind, Value};

use super::super::{Item, Loss, Read, Write};
use super::address::Address;

/// At most this many keys in one command, so that the server is not kept from others for long.
const MOST_KEYS: usize = 256;

/// One command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    /// The values of keys.
    Get(&'a [String]),
    /// Keep an item.
    Set(&'a Item),
    /// Which node has which slots.
    Slots,
    /// The next command concerns a slot that is just coming to this node.
    Asking,
}

impl<'a> Question<'a> {
    /// The questions for reading keys.
    pub fn gets(keys: &'a [String]) -> Vec<Self> {
        keys.chunks(MOST_KEYS).map(Self::Get).collect()
    }

    /// As it is sent.
    pub fn command(self) -> Cmd {
        match self {
            Self::Get(keys) => {
                let mut command = redis::cmd("MGET");
                command.arg(keys);
                command
            }
            Self::Set(item) => {
                let ttl = u64::try_from(item.ttl.as_millis()).unwrap_or(u64::MAX).max(1);
                let mut command = redis::cmd("SET");
                command.arg(&item.key).arg(item.value.as_ref()).arg("PX").arg(ttl);
                command
            }
            Self::Slots => {
                let mut command = redis::cmd("CLUSTER");
                command.arg("SLOTS");
                command
            }
            Self::Asking => redis::cmd("ASKING"),
        }
    }

    /// Whether a reply has the shape of an answer to this.
    pub fn is_answered_by(self, reply: &Value) -> bool {
        match (self, reply) {
            (_, Value::ServerError(_))
            | (Self::Set(_) | Self::Asking, Value::Okay)
            | (Self::Slots, Value::Array(_)) => true,
            (Self::Get(keys), Value::Array(values)) => {
                values.len() == keys.len()
                    && values.iter().all(|value| matches!(value, Value::BulkString(_) | Value::Nil))
            }
            _ => false,
        }
    }
}

/// What became of reading, from the replies to [`Question::gets`].
pub(super) fn reads(keys: &[String], replies: Result<Vec<Value>, Loss>) -> Vec<Read> {
    let replies = match replies {
        Ok(replies) => replies,
        Err(loss) => return vec![Read::Lost(loss); keys.len()],
    };
    let mut outcomes = Vec::with_capacity(keys.len());
    for (keys, reply) in keys.chunks(MOST_KEYS).zip(replies) {
        match reply {
            Value::Array(values) => outcomes.extend(values.into_iter().map(|value| match value {
                Value::BulkString(bytes) => Read::Value(Bytes::from(bytes)),
                Value::Nil => Read::Absent,
                _ => Read::Lost(Loss::Garbage),
            })),
            reply => outcomes.extend(keys.iter().map(|_| Read::Lost(loss(&reply)))),
        }
    }
    outcomes
}

/// What became of one item, from the reply to its [`Question::Set`].
pub(super) fn write(reply: &Value) -> Write {
    match reply {
        Value::Okay => Write::Stored,
        reply => Write::Lost(loss(reply)),
    }
}

fn loss(reply: &Value) -> Loss {
    if matches!(reply, Value::ServerError(_)) { Loss::Refused } else { Loss::Garbage }
}

/// Whether the server says that it is not, or not now, the one to talk to.
pub(super) fn is_moved_away(reply: &Value) -> bool {
    use ServerErrorKind::{BusyLoading, MasterDown, ReadOnly};
    matches!(reply, Value::ServerError(error) if matches!(error.kind(), Some(BusyLoading | MasterDown | ReadOnly)))
}

/// Whether the server says that the cluster is not whole.
pub(super) fn is_cluster_down(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::ClusterDown))
}

/// Where a cluster's node sends us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    /// The other node.
    pub address: Address,
    /// Whether this is for this one question only, which must say so.
    pub is_asking: bool,
}

impl Redirect {
    /// Of a reply. A node may leave out the host: then it is the one that was asked.
    pub fn of(reply: &Value, asked: &Address) -> Option<Self> {
        let Value::ServerError(error) = reply else { return None };
        let is_asking = match error.kind()? {
            ServerErrorKind::Ask => true,
            ServerErrorKind::Moved => false,
            _ => return None,
        };
        let (_slot, place) = error.details()?.split_once(' ')?;
        let (host, port) = place.rsplit_once(':')?;
        let host = if host.is_empty() { &asked.host } else { host };
        Some(Self { address: Address { host: host.to_owned(), port: port.parse().ok()? }, is_asking })
    }
}

/// A range of slots and the master that has it, as a node tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotRange {
    /// The first slot.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// The master.
    pub master: Address,
}

/// The answer to [`Question::Slots`], in the order of the slots.
pub(super) fn slot_ranges(reply: &Value, asked: &Address) -> Result<Vec<SlotRange>, String> {
    let entries = match reply {
        Value::Array(entries) => entries,
        Value::ServerError(error) => return Err(error_text(error)),
        _ => return Err("CLUSTER SLOTS was answered with something that is no answer".to_owned()),
    };
    // A node whose master is not known is left out; its slots are asked of nobody.
    let mut ranges: Vec<_> = entries.iter().filter_map(|entry| slot_range(entry, asked)).collect();
    ranges.sort_by_key(|range| range.first);
    if ranges.is_empty() { Err("the cluster has no slots".to_owned()) } else { Ok(ranges) }
}

fn slot_range(entry: &Value, asked: &Address) -> Option<SlotRange> {
    let Value::Array(entry) = entry else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = entry.as_slice() else { return None };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::Nil => "",
        _ => return None,
    };
    let host = match host {
        "" => &asked.host,
        "?" => return None,
        host => host,
    };
    let master = Address { host: host.to_owned(), port: u16::try_from(*port).ok()? };
    Some(SlotRange { first: u16::try_from(*first).ok()?, last: u16::try_from(*last).ok()?, master })
}

/// An error reply as it stands in logs: short, and on one line.
pub(super) fn error_text(error: &redis::ServerError) -> String {
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    text.trim_end().chars().filter(|char| !char.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).expect("sound RESP")
    }

    fn asked() -> Address {
        Address { host: "here".to_owned(), port: 1 }
    }

    #[test]
    fn replies_of_another_shape_are_no_answers() {
        let keys = ["a".to_owned(), "b".to_owned()];
        let get = Question::Get(&keys);
        for (reply, is_answer) in [
            ("*2\r\n$1\r\nx\r\n$-1\r\n", true),
            ("*2\r\n$0\r\n\r\n$0\r\n\r\n", true),
            ("-OOM command not allowed\r\n", true),
            ("*1\r\n$1\r\nx\r\n", false),
            ("*3\r\n$1\r\nx\r\n$-1\r\n$-1\r\n", false),
            ("*2\r\n$1\r\nx\r\n:1\r\n", false),
            ("*2\r\n$1\r\nx\r\n*0\r\n", false),
            ("*-1\r\n", false),
            ("$1\r\nx\r\n", false),
            (":2\r\n", false),
            ("+OK\r\n", false),
        ] {
            assert_eq!(get.is_answered_by(&parsed(reply)), is_answer, "{reply:?}");
        }
        let item = Item { key: "a".to_owned(), value: Bytes::new(), ttl: std::time::Duration::from_secs(1) };
        for (reply, is_answer) in [
            ("+OK\r\n", true),
            ("-READONLY no\r\n", true),
            ("+QUEUED\r\n", false),
            ("$-1\r\n", false),
            (":1\r\n", false),
        ] {
            assert_eq!(Question::Set(&item).is_answered_by(&parsed(reply)), is_answer, "{reply:?}");
        }
    }

    #[test]
    fn every_error_reply_is_a_refusal() {
        let keys = ["a".to_owned(), "b".to_owned()];
        for code in [
            "OOM",
            "READONLY",
            "LOADING",
            "NOPERM",
            "WRONGTYPE",
            "MOVED 1 a:1",
            "ASK 1 a:1",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "CROSSSLOT",
            "EXECABORT",
            "TRYAGAIN",
            "NOAUTH",
            "ERR",
            "",
        ] {
            let reply = parsed(&format!("-{code} for a reason\r\n"));
            assert_eq!(reads(&keys, Ok(vec![reply.clone()])), vec![Read::Lost(Loss::Refused); 2], "{code}");
            assert_eq!(write(&reply), Write::Lost(Loss::Refused), "{code}");
        }
        assert_eq!(reads(&keys, Err(Loss::Timeout)), vec![Read::Lost(Loss::Timeout); 2]);
    }

    #[test]
    fn redirects_name_a_node_or_only_its_port() {
        let redirect = |text: &str| Redirect::of(&parsed(text), &asked());
        let want = |host: &str, port, is_asking| {
            Some(Redirect { address: Address { host: host.to_owned(), port }, is_asking })
        };
        assert_eq!(redirect("-MOVED 3999 127.0.0.1:6381\r\n"), want("127.0.0.1", 6381, false));
        assert_eq!(redirect("-ASK 3999 ::1:6381\r\n"), want("::1", 6381, true));
        assert_eq!(redirect("-MOVED 3999 :6381\r\n"), want("here", 6381, false));
        for text in ["-MOVED\r\n", "-MOVED 1\r\n", "-MOVED 1 a:x\r\n", "-ERR 1 a:1\r\n", "+OK\r\n"] {
            assert_eq!(redirect(text), None, "{text}");
        }
    }

    #[test]
    fn slot_ranges_are_those_of_masters_that_are_known() {
        let reply = parsed(
            "*4\r\n*4\r\n:8\r\n:9\r\n*3\r\n$1\r\na\r\n:7\r\n$1\r\nx\r\n*3\r\n$1\r\nb\r\n:7\r\n$1\r\ny\r\n\
             *3\r\n:0\r\n:5\r\n*2\r\n$0\r\n\r\n:8\r\n*3\r\n:6\r\n:6\r\n*2\r\n$-1\r\n:9\r\n\
             *3\r\n:7\r\n:7\r\n*2\r\n$1\r\n?\r\n:9\r\n",
        );
        let range =
            |first, last, host: &str, port| SlotRange { first, last, master: Address { host: host.to_owned(), port } };
        assert_eq!(
            slot_ranges(&reply, &asked()),
            Ok(vec![range(0, 5, "here", 8), range(6, 6, "here", 9), range(8, 9, "a", 7)])
        );
        for text in ["*0\r\n", "*1\r\n:1\r\n", "-ERR This instance has cluster support disabled\r\n", "+OK\r\n"] {
            assert!(slot_ranges(&parsed(text), &asked()).is_err(), "{text}");
        }
    }
}

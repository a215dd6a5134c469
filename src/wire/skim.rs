//! Reads an answer while it passes, in pieces, for the little that decides whether it may be kept whole.
//!
//! Only the top level is looked at: `status`, `warnings`, `infos`, and VictoriaMetrics' `isPartial`. What lies below is counted in
//! brackets and forgotten, so an answer of any length takes the memory of one piece.

use serde::Deserialize;

/// What is looked at at the top level is not longer than this.
const MOST_CAPTURED: usize = 16 << 10;
/// No key that matters is longer.
const MOST_KEY: usize = 16;

/// Why an answer is not kept, though the server sent it as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// It is not one whole JSON object that says `success`.
    Shape,
    /// The server says that data is missing.
    Partial,
    /// It came with warnings of the moment.
    Warnings,
}

impl Unkept {
    /// As it stands in headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shape => "foreign-shape",
            Self::Partial => "partial-response",
            Self::Warnings => "warnings",
        }
    }
}

/// Where in the top level the reading is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before a key, or after the last value.
    #[default]
    Key,
    /// Behind a key.
    Value,
}

/// Where in a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
}

/// An answer on its way.
#[derive(Debug, Default)]
pub struct Skim {
    depth: u32,
    text: Text,
    at: At,
    key: Vec<u8>,
    /// The value of `key`, if it matters.
    wanted: Option<Vec<u8>>,
    is_over: bool,
    is_success: bool,
    /// The first thing that speaks against keeping it.
    fault: Option<Unkept>,
}

impl Skim {
    /// Takes the next piece.
    pub fn take(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && self.fault != Some(Unkept::Shape) {
            let read = self.skip(piece);
            if read > 0 {
                piece = &piece[read..];
                continue;
            }
            self.byte(piece[0]);
            piece = &piece[1..];
        }
    }

    /// How much of a piece means nothing: the inside of a string that nobody wants to know.
    fn skip(&self, piece: &[u8]) -> usize {
        if self.text != Text::Inside || self.depth == 1 || self.wanted.is_some() {
            return 0;
        }
        memchr::memchr2(b'"', b'\\', piece).unwrap_or(piece.len())
    }

    fn byte(&mut self, byte: u8) {
        if let Some(value) = &mut self.wanted {
            value.push(byte);
            if value.len() > MOST_CAPTURED {
                self.fault = Some(Unkept::Shape);
            }
        }
        if self.text != Text::Outside {
            self.byte_of_text(byte);
            return;
        }
        match byte {
            b'"' => self.text = Text::Inside,
            b'{' | b'[' => {
                if self.is_over || (self.depth == 0 && byte == b'[') || self.depth == u32::MAX {
                    self.fault = Some(Unkept::Shape);
                }
                self.depth = self.depth.saturating_add(1);
            }
            b'}' | b']' => self.close(),
            b',' if self.depth == 1 => self.end_value(),
            b':' if self.depth == 1 => self.begin_value(),
            _ => {}
        }
        if self.depth == 0 && !matches!(byte, b'}' | b' ' | b'\t' | b'\r' | b'\n') {
            self.fault = Some(Unkept::Shape);
        }
    }

    fn byte_of_text(&mut self, byte: u8) {
        let is_key = self.depth == 1 && self.at == At::Key;
        self.text = match (self.text, byte) {
            (Text::Inside, b'\\') => Text::Escaped,
            (Text::Inside, b'"') => Text::Outside,
            _ => {
                if is_key && self.key.len() < MOST_KEY {
                    self.key.push(byte);
                }
                Text::Inside
            }
        };
    }

    fn begin_value(&mut self) {
        self.at = At::Value;
        let is_wanted = [&b"status"[..], b"warnings", b"infos", b"isPartial"].contains(&&*self.key);
        self.wanted = is_wanted.then(Vec::new);
    }

    fn close(&mut self) {
        if self.depth == 1 {
            self.end_value();
            self.is_over = true;
        }
        if self.depth == 0 {
            self.fault = Some(Unkept::Shape);
        }
        self.depth = self.depth.saturating_sub(1);
    }

    fn end_value(&mut self) {
        if let Some(mut value) = self.wanted.take() {
            // The comma or the bracket that ended it.
            value.pop();
            let fault = match &*self.key {
                b"status" => {
                    self.is_success = value.trim_ascii() == b"\"success\"";
                    None
                }
                b"isPartial" => (value.trim_ascii() != b"false").then_some(Unkept::Partial),
                _ => (!may_be_kept(&value)).then_some(Unkept::Warnings),
            };
            self.fault = self.fault.or(fault);
        }
        self.key.clear();
        self.at = At::Key;
    }

    /// Whether the whole answer may be kept.
    pub fn finish(&self) -> Result<(), Unkept> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.is_over && self.depth == 0 && self.is_success => Ok(()),
            None => Err(Unkept::Shape),
        }
    }
}

/// Whether all annotations are of the kind that the same question brings again.
fn may_be_kept(list: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Texts(Option<Vec<String>>);
    let again = |text: &String| {
        text.starts_with("PromQL warning: ")
            || text.starts_with("PromQL info: ")
            || text == "results truncated due to limit"
    };
    serde_json::from_slice::<Texts>(list).is_ok_and(|texts| texts.0.is_none_or(|texts| texts.iter().all(again)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skim(text: &str, pieces: usize) -> Result<(), Unkept> {
        let mut skim = Skim::default();
        for piece in text.as_bytes().chunks(pieces.max(1)) {
            skim.take(piece);
        }
        skim.finish()
    }

    #[test]
    fn what_is_said_at_the_top_decides() {
        for (text, verdict) in [
            (r#"{"status":"success","data":[]}"#, Ok(())),
            (r#"{ "status" : "success", "data" : {"status":"error","warnings":["x"]} }"#, Ok(())),
            (r#"{"status":"success","isPartial":false,"data":[],"warnings":[],"infos":null}"#, Ok(())),
            (r#"{"status":"success","data":["a\"}",{"b":"{[\\"}],"warnings":["PromQL warning: x"]}"#, Ok(())),
            (r#"{"status":"success","data":[],"warnings":["results truncated due to limit"]}"#, Ok(())),
            (r#"{"status":"success","data":[],"warnings":["store is gone"]}"#, Err(Unkept::Warnings)),
            (r#"{"status":"success","data":[],"warnings":["PromQL warning: x","gone"]}"#, Err(Unkept::Warnings)),
            (r#"{"status":"success","data":[],"warnings":[7]}"#, Err(Unkept::Warnings)),
            (r#"{"status":"success","isPartial":true,"data":[]}"#, Err(Unkept::Partial)),
            (r#"{"status":"error","error":"x"}"#, Err(Unkept::Shape)),
            (r#"{"data":[]}"#, Err(Unkept::Shape)),
            (r#"{"status":"success","data":["#, Err(Unkept::Shape)),
            (r#"{"status":"success","data":[]}}"#, Err(Unkept::Shape)),
            (r#"{"status":"success"}{"status":"success"}"#, Err(Unkept::Shape)),
            (r#"{"status":"success"} x"#, Err(Unkept::Shape)),
            (r#"x{"status":"success"}"#, Err(Unkept::Shape)),
            ("{\"status\":\"success\"} \n", Ok(())),
            (r#"["status"]"#, Err(Unkept::Shape)),
            ("", Err(Unkept::Shape)),
        ] {
            for pieces in [1, 2, 3, 7, text.len()] {
                assert_eq!(skim(text, pieces), verdict, "{text} in pieces of {pieces}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_data_looks_like_the_top(data in "\\PC*", deep in 0..9_usize, pieces in 1..64_usize) {
            let text = serde_json::to_string(&data).expect("a string");
            let data = format!("{}{text}{}", "[".repeat(deep), "]".repeat(deep));
            let answer = |warnings: &str| format!(r#"{{"status":"success","data":{data}{warnings}}}"#);
            prop_assert_eq!(skim(&answer(""), pieces), Ok(()));
            prop_assert_eq!(skim(&answer(r#","warnings":["gone"]"#), pieces), Err(Unkept::Warnings));
        }

        #[test]
        fn nothing_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut skim = Skim::default();
            skim.take(&bytes);
            let _ = skim.finish();
        }
    }
}

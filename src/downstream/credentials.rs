//! What is shown to servers instead of the client's `Authorization`: a user and a password, or a token.
//!
//! Rule: a secret comes from a file, is followed as it changes, and is in no message: the header that holds it is marked as
//! sensitive.

use std::fs;
use std::path::{Path, PathBuf};

use http::HeaderValue;

use super::watched::{Source, Watched};
use crate::config;

/// The value of `Authorization`, if there is one to show.
#[derive(Debug)]
pub(super) struct Credentials(Option<Watched<HeaderValue>>);

/// Where the secret comes from.
enum Kind {
    Basic { username: String, password: PathBuf },
    Bearer { token: PathBuf },
}

const BASIC: &str = "downstream.basic_auth";
const BEARER: &str = "downstream.bearer_token_file";

impl Credentials {
    /// Reads the file, which is followed from then on. Inside of a tokio runtime.
    pub(super) fn open(options: &config::Downstream) -> Result<Self, String> {
        let watched = Kind::configured(options).map_err(|(option, problem)| format!("{option}: {problem}"))?;
        Ok(Self(watched.map(Watched::open).transpose()?))
    }

    /// What to show now.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        self.0.as_ref().map(Watched::get)
    }
}

/// Whether the options can be meant, but for what the files hold.
pub(super) fn check(options: &config::Downstream) -> Result<(), (&'static str, String)> {
    Kind::configured(options).map(|_| ())
}

impl Kind {
    fn configured(options: &config::Downstream) -> Result<Option<Self>, (&'static str, String)> {
        let token = Some(options.bearer_token_file.clone()).filter(|path| !path.as_os_str().is_empty());
        match (&options.basic_auth, token) {
            (None, None) => Ok(None),
            (None, Some(token)) => Ok(Some(Self::Bearer { token })),
            (Some(_), Some(_)) => Err((BASIC, format!("there is {BEARER} too, and one request can show only one"))),
            (Some(auth), None) if auth.username.contains(':') || auth.username.contains(char::is_control) => Err((
                BASIC,
                format!("{:?} is no username: it must have no colon and no control character", auth.username),
            )),
            (Some(auth), None) if auth.password_file.as_os_str().is_empty() => {
                Err((BASIC, "password_file is missing; write the path of a file that holds the password".to_owned()))
            }
            (Some(auth), None) => {
                Ok(Some(Self::Basic { username: auth.username.clone(), password: auth.password_file.clone() }))
            }
        }
    }
}

impl Source for Kind {
    type Held = Vec<u8>;
    type Made = HeaderValue;

    fn option(&self) -> &'static str {
        match self {
            Self::Basic { .. } => BASIC,
            Self::Bearer { .. } => BEARER,
        }
    }

    fn read(&self) -> Result<Self::Held, String> {
        let (Self::Basic { password: path, .. } | Self::Bearer { token: path }) = self;
        fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()))
    }

    fn make(&self, held: &Self::Held) -> Result<HeaderValue, String> {
        let (path, text) = match self {
            Self::Basic { username, password } => {
                let secret = secret(held, password)?;
                let text = base64(&[username.as_bytes(), b":", secret].concat());
                (password, [b"Basic ", text.as_bytes()].concat())
            }
            Self::Bearer { token } => (token, [b"Bearer ", secret(held, token)?].concat()),
        };
        let mut value = HeaderValue::from_bytes(&text)
            .map_err(|_| format!("{} holds more than one line, or what no header can hold", path.display()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// What a file holds, without the line end that editors leave.
fn secret<'a>(held: &'a [u8], path: &Path) -> Result<&'a [u8], String> {
    let length = held.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    if length == 0 { Err(format!("{} is empty; it must hold a secret", path.display())) } else { Ok(&held[..length]) }
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        let sign = move |at: usize| char::from(SIGNS[(bits >> (18 - 6 * at) & 63) as usize]);
        let length = three.len();
        (0..4).map(move |at| if at <= length { sign(at) } else { '=' })
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_its_standard() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("ÿþ?>", "w7/Dvj8+"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded, "{plain}");
        }
    }

    #[test]
    fn a_line_end_is_no_part_of_a_secret_and_a_secret_is_in_no_message() {
        let basic = Kind::Basic { username: "prom".to_owned(), password: "/p".into() };
        let bearer = Kind::Bearer { token: "/t".into() };
        for held in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            let value = basic.make(&held.into()).expect("a header can hold it");
            assert_eq!(value, "Basic cHJvbTpzM2NyZXQ=");
            assert_eq!(format!("{value:?}"), "Sensitive");
            assert_eq!(bearer.make(&held.into()).expect("a header can hold it"), "Bearer s3cret");
        }
        for (held, says) in
            [("", "/t is empty"), ("\n", "/t is empty"), ("s3cret\ns3cret", "/t holds more than one line")]
        {
            let problem = bearer.make(&held.into()).expect_err("no token");
            assert!(problem.contains(says) && !problem.contains("s3cret"), "{problem}");
        }
        assert!(basic.make(&"s3cret\nand more".into()).is_ok(), "a password may have several lines");
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let options = |basic: Option<(&str, &str)>, token: &str| config::Downstream {
            basic_auth: basic
                .map(|(name, file)| config::BasicAuth { username: name.to_owned(), password_file: file.into() }),
            bearer_token_file: token.into(),
            ..config::Downstream::default()
        };
        for (options, says) in [
            (options(Some(("a", "/p")), "/t"), Some("only one")),
            (options(Some(("a:b", "/p")), ""), Some("no colon")),
            (options(Some(("a", "")), ""), Some("password_file is missing")),
            (options(Some(("", "/p")), ""), None),
            (options(Some(("a", "/p")), ""), None),
            (options(None, "/t"), None),
            (options(None, ""), None),
        ] {
            let problem = check(&options).err().map(|(_, problem)| problem);
            let is_said = problem.as_ref().is_none_or(|problem| says.is_some_and(|says| problem.contains(says)));
            assert!(is_said && problem.is_some() == says.is_some(), "{options:?}: {problem:?}");
        }
    }
}

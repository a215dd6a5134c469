//! The errors that promfront itself answers with, in Prometheus's form.
//!
//! Clients decide by status code whether they read the body: Grafana and others decode 2xx, 400, 422 and 503 as Prometheus's
//! JSON and show everything else raw. An error of the downstream's is never turned into one of these: it passes as it came.

use std::borrow::Cow;

use http::StatusCode;

/// The longest message that is sent.
const MOST_MESSAGE_BYTES: usize = 1024;
/// What stands for the rest of a longer one.
const CUT: char = '…';

/// What kind of error it is: the one table of status codes and `errorType`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong or over a limit on requests.
    BadData,
    /// The query ran, or would run, over a limit.
    Execution,
    /// It is not said whose request it is.
    Unauthorized,
    /// There is nothing by that name.
    NotFound,
    /// There was not enough time.
    Timeout,
    /// Nobody can answer now.
    Unavailable,
    /// Too much waits already.
    Overloaded,
    /// Too much waits already, for clients that slow down when they are told so.
    TooManyRequests,
    /// The downstream answered with something that cannot be an answer.
    BadGateway,
    /// A fault of our own.
    Internal,
}

impl ErrorKind {
    /// The status code that it is sent with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout | Self::Unavailable | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// After how many seconds it may be better.
    pub fn retry_after(self) -> Option<u32> {
        matches!(self, Self::Overloaded | Self::TooManyRequests).then_some(1)
    }

    /// Prometheus's word for it.
    pub fn error_type(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Unavailable | Self::Overloaded => "unavailable",
            Self::TooManyRequests => "too_many_requests",
            Self::BadGateway | Self::Internal => "internal",
        }
    }
}

/// An error of promfront's own: what went wrong and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Which kind.
    pub kind: ErrorKind,
    /// For people: the limit, its value, the actual value, the option.
    pub message: String,
}

impl ApiError {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The request's time is over.
    pub fn too_late() -> Self {
        let message = "no answer from the downstream in time (the request's timeout, or downstream.timeout)";
        Self::new(ErrorKind::Timeout, message)
    }

    /// Whether a second try, not bound to somebody else's luck, may fare better.
    pub fn is_of_the_moment(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::BadGateway)
    }

    /// The body that Prometheus would send. Much of a message may be the client's own text, so it is cut to be read.
    pub fn to_json(&self) -> String {
        let message = serde_json::Value::from(cut(&self.message).as_ref());
        format!(r#"{{"status":"error","errorType":"{}","error":{message}}}"#, self.kind.error_type())
    }
}

fn cut(message: &str) -> Cow<'_, str> {
    if message.len() <= MOST_MESSAGE_BYTES {
        return Cow::Borrowed(message);
    }
    let end = message.floor_char_boundary(MOST_MESSAGE_BYTES - CUT.len_utf8());
    Cow::Owned(format!("{}{CUT}", &message[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_at_most_a_kibibyte_and_whole_characters() {
        let told = |message: &str| {
            let json = ApiError::new(ErrorKind::BadData, message).to_json();
            let body: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
            body["error"].as_str().expect("a text").to_owned()
        };
        for (text, length) in [("x".repeat(1024), 1024), ("x".repeat(1025), 1024), ("€".repeat(900), 1023)] {
            let told = told(&text);
            assert_eq!(told.len(), length);
            assert_eq!(told.ends_with(CUT), text.len() > 1024);
            assert!(text.starts_with(told.trim_end_matches(CUT)));
        }
        assert_eq!(told("short \"and\" sound"), "short \"and\" sound");
    }
}

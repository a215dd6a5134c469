//! The two texts that travel, the parameters of a request and the body of a range answer, and the headers that do not.
//!
//! Pure: bytes in, values out and back. Neither side is trusted; what is not understood is named, never guessed.

pub mod hop;
pub mod request;
pub mod response;
mod scan;
pub mod skim;

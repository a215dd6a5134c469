//! What is packed as gzip, read by a reader that forgives nothing.
//!
//! Need: most clients stop at the end of the first member, or read on into a second one, so neither notices what should not be there.
//! Rule: one member, sound to the checksum and the length at its end, and not a byte after it.

use std::io::Read;

use flate2::bufread::GzDecoder;

/// What the one member holds, or what is wrong with it.
pub fn one_member(packed: &[u8]) -> Result<Vec<u8>, String> {
    let (mut reader, mut plain) = (GzDecoder::new(packed), Vec::new());
    reader.read_to_end(&mut plain).map_err(|error| format!("not sound after {} bytes: {error}", plain.len()))?;
    match reader.into_inner() {
        [] => Ok(plain),
        rest => Err(format!("{} bytes follow the first member of {}", rest.len(), packed.len() - rest.len())),
    }
}

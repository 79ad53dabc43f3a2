//! Objects with their own digest: what is read is what was written, or it is an error.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// An object as it is stored. The digest is of the bytes of `body`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    format: u32,
    sha256: String,
    body: Box<RawValue>,
}

/// The bytes of an object.
///
/// # Errors
/// `Internal` where the body has no JSON form.
pub(super) fn seal(body: &impl Serialize) -> Result<Vec<u8>> {
    let failed = |error| Error::caused(ErrorKind::Internal, "writing an object of the state", error);
    let body = serde_json::value::to_raw_value(body).map_err(failed)?;
    let sha256 = digest(body.get().as_bytes());
    serde_json::to_vec(&Sealed { format: FORMAT, sha256, body }).map_err(failed)
}

/// The body of the object `name`, which is shown in errors.
///
/// # Errors
/// `Corrupt` where the bytes are not what [`seal`] made, or of another format.
pub(super) fn unseal<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    let damaged = |why: String| Error::caused(ErrorKind::Corrupt, format!("`{name}` is damaged"), why);
    let sealed: Sealed = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if sealed.format != FORMAT {
        let doing = format!("`{name}` is of format {}, and this version of Milepost reads {FORMAT}", sealed.format);
        return Err(Error::new(ErrorKind::Corrupt, doing));
    }
    let found = digest(sealed.body.get().as_bytes());
    if found != sealed.sha256 {
        return Err(damaged(format!("its digest is `{found}`, and `{}` was written", sealed.sha256)));
    }
    serde_json::from_str(sealed.body.get()).map_err(|error| damaged(error.to_string()))
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The version of the format of all objects of the state.
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let body = vec![(1_u64, "text".to_owned()), (2, String::new())];
        let bytes = seal(&body).expect("sealed");
        assert_eq!(unseal::<Vec<(u64, String)>>("x", &bytes).expect("whole"), body);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut spoilt = bytes.clone();
                spoilt[at] ^= 1 << bit;
                match unseal::<Vec<(u64, String)>>("x", &spoilt) {
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
                    Ok(found) => panic!("byte {at}, bit {bit}: {found:?}"),
                }
            }
        }
    }
}

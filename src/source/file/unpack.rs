//! A file's bytes, unpacked as they are read: never more of them in memory than a buffer and the packer's window.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::definition::pipeline::Packing;

/// The content of a file from its start.
pub(super) fn content(file: &File, packing: Packing) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    unpacked(BufReader::with_capacity(BUFFER_BYTES, file), packing)
}

/// The size of a file in bytes and the SHA-256 of its bytes. With `sound`, what is packed is also unpacked to its end, to
/// know that it is whole.
pub(super) fn digest(file: &File, packing: Packing, sound: bool) -> io::Result<(u64, String)> {
    let mut whole = file.try_clone()?;
    whole.rewind()?;
    let mut digesting = Digesting { file: whole, digest: Sha256::new(), size: 0 };
    if sound && packing != Packing::Plain {
        let reader = BufReader::with_capacity(BUFFER_BYTES, &mut digesting);
        io::copy(&mut unpacked(reader, packing)?, &mut io::sink())?;
    }
    io::copy(&mut digesting, &mut io::sink())?;
    let digest: String = digesting.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digesting.size, format!("sha256:{digest}")))
}

fn unpacked<'a>(mut packed: impl BufRead + Send + 'a, packing: Packing) -> io::Result<Box<dyn BufRead + Send + 'a>> {
    // Both readers take no bytes at all for an empty content.
    if packing != Packing::Plain && packed.fill_buf()?.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty"));
    }
    Ok(match packing {
        Packing::Plain => Box::new(packed),
        Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(packed))),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
    })
}

/// A file that is digested as it is read.
struct Digesting {
    file: File,
    digest: Sha256,
    size: u64,
}

impl Read for Digesting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.digest.update(buffer.get(..read).unwrap_or_default());
        self.size += read as u64;
        Ok(read)
    }
}

const BUFFER_BYTES: usize = 256 << 10;

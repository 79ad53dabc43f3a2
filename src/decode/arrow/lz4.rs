//! How long an LZ4 frame is unpacked, found without unpacking it.
//!
//! Arrow's reader unpacks a frame to its end and compares the length afterwards. A frame of a megabyte can unpack to a
//! quarter of a gigabyte, so the length is worked out first, from the frame's sequences.

/// The length of what `frame` holds; none where it is not one whole frame of the standard format.
pub(super) fn unpacked_length(frame: &[u8]) -> Option<u64> {
    let mut rest = Bytes(frame);
    if rest.u32()? != MAGIC {
        return None;
    }
    let flags = rest.byte()?;
    let _block_size = rest.byte()?;
    let block_checksums = flags & 0b0001_0000 != 0;
    let content_checksum = flags & 0b0000_0100 != 0;
    if flags & 0b1100_0000 != VERSION || flags & DICTIONARY != 0 {
        return None;
    }
    if flags & CONTENT_SIZE != 0 {
        rest.take(8)?;
    }
    rest.byte()?;
    let mut length = 0_u64;
    loop {
        let size = rest.u32()?;
        if size == 0 {
            break;
        }
        let block = rest.take(usize::try_from(size & !PLAIN).ok()?)?;
        length += if size & PLAIN == 0 { block_length(block)? } else { block.len() as u64 };
        if block_checksums {
            rest.take(4)?;
        }
    }
    if content_checksum {
        rest.take(4)?;
    }
    rest.0.is_empty().then_some(length)
}

/// The length of a block's sequences: each is literals, then a copy of at least four bytes; the last is literals alone.
fn block_length(block: &[u8]) -> Option<u64> {
    let mut rest = Bytes(block);
    let mut length = 0;
    loop {
        let token = rest.byte()?;
        let literals = rest.length(token >> 4)?;
        rest.take(usize::try_from(literals).ok()?)?;
        length += literals;
        if rest.0.is_empty() {
            return Some(length);
        }
        rest.take(2)?;
        length += rest.length(token & 0b1111)? + 4;
    }
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A length of four bits, or of more where they are all set: bytes are added until one is not 255.
    fn length(&mut self, four_bits: u8) -> Option<u64> {
        let mut length = u64::from(four_bits);
        if four_bits == 15 {
            loop {
                let byte = self.byte()?;
                length += u64::from(byte);
                if byte != u8::MAX {
                    break;
                }
            }
        }
        Some(length)
    }
}

const MAGIC: u32 = 0x184D_2204;
const VERSION: u8 = 0b0100_0000;
const DICTIONARY: u8 = 0b0000_0001;
const CONTENT_SIZE: u8 = 0b0000_1000;
/// Marks the size of a block that is not packed.
const PLAIN: u32 = 1 << 31;

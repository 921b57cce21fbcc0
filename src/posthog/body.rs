//! Reads an answer's body, bounded. Bodies are unpacked here and not by the HTTP library, so that the bound counts the
//! bytes that memory has to hold and not those that came over the wire.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use crate::error::{Error, Result};

/// The caller's memory decision hears of a body's growth in steps of this size.
const STEP_BYTES: usize = 1024 * 1024;
const FIRST_BYTES: usize = 64 * 1024;

/// How large a body may grow, and who is told while it grows.
pub struct BodyLimit<'a> {
    /// A body above this is cut off while it is read, which is a reason to ask for less.
    pub max_bytes: usize,
    /// Memory to use again; its content is dropped.
    pub buffer: Vec<u8>,
    /// Called with the size that the body is about to reach, before it does; may block, and may refuse. A second attempt
    /// starts small again.
    pub on_growth: &'a mut dyn FnMut(usize) -> Result<()>,
}

impl std::fmt::Debug for BodyLimit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyLimit").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub(crate) enum Cut {
    /// It is larger than allowed.
    TooLarge,
    /// The transfer broke or its packing is damaged.
    Broken(io::Error),
    /// Somebody decided that the run ends.
    Stopped(Error),
}

/// Reads all of `wire` into the limit's buffer and returns it with the number of bytes that came over the wire. `check`
/// is asked between reads.
pub(crate) fn read_body(
    wire: impl Read,
    gzip: bool,
    limit: &mut BodyLimit<'_>,
    check: impl FnMut() -> Result<(), Cut>,
) -> Result<(Vec<u8>, u64), Cut> {
    let mut wire = Counted { inner: wire, bytes: 0 };
    let body = if gzip {
        let mut decoder = GzDecoder::new(BufReader::with_capacity(FIRST_BYTES, &mut wire));
        let body = fill(&mut decoder, limit, check)?;
        // The end of the packed data is not yet the end of the transfer: the connection is only used again after both.
        if !decoder.get_mut().fill_buf().map_err(Cut::Broken)?.is_empty() {
            return Err(Cut::Broken(io::Error::other("bytes after the end of the gzip data")));
        }
        body
    } else {
        fill(&mut wire, limit, check)?
    };
    Ok((body, wire.bytes))
}

fn fill(
    mut source: impl Read,
    limit: &mut BodyLimit<'_>,
    mut check: impl FnMut() -> Result<(), Cut>,
) -> Result<Vec<u8>, Cut> {
    // What the buffer held is written over as it is: to clear it first would cost as much as to read it.
    let mut body = std::mem::take(&mut limit.buffer);
    let (mut length, mut announced) = (0, 0);
    loop {
        if length == announced {
            let step = if length == 0 { FIRST_BYTES } else { STEP_BYTES };
            // One byte above the limit is enough to see that it is passed.
            announced = (length + step).min(limit.max_bytes.saturating_add(1));
            (limit.on_growth)(announced).map_err(Cut::Stopped)?;
            if body.len() < announced {
                // Exactly: a buffer of twice the size would be too large to keep.
                body.reserve_exact(announced - body.len());
                body.resize(announced, 0);
            }
        }
        check()?;
        match source.read(&mut body[length..announced]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Cut::Broken(e)),
        }
        if length > limit.max_bytes {
            limit.buffer = body;
            return Err(Cut::TooLarge);
        }
    }
    body.truncate(length);
    Ok(body)
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    fn packed(data: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }

    type Ended = Result<(Vec<u8>, u64), Cut>;

    /// How reading ended, and the sizes that were announced.
    fn read(wire: &[u8], gzip: bool, max_bytes: usize) -> (Ended, Vec<usize>) {
        let mut sizes = Vec::new();
        let mut on_growth = |bytes| {
            sizes.push(bytes);
            Ok(())
        };
        let mut limit = BodyLimit { max_bytes, buffer: vec![7; 10], on_growth: &mut on_growth };
        let result = read_body(wire, gzip, &mut limit, || Ok(()));
        (result, sizes)
    }

    #[test]
    fn plain_and_packed_bodies_come_out_whole() {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        for (wire, gzip) in [(data.clone(), false), (packed(&data), true)] {
            let (result, sizes) = read(&wire, gzip, data.len());
            let (body, wire_bytes) = result.unwrap();
            assert!(body == data);
            assert_eq!(wire_bytes, wire.len() as u64);
            assert_eq!(sizes.last(), Some(&(data.len() + 1)), "{sizes:?}");
            assert!(sizes.is_sorted());
        }
    }

    #[test]
    fn a_small_packed_body_that_unpacks_to_much_is_cut_off() {
        let bomb = packed(&vec![0; 50_000_000]);
        let (result, sizes) = read(&bomb, true, 1_000_000);
        assert!(matches!(result, Err(Cut::TooLarge)));
        assert_eq!(sizes.last(), Some(&1_000_001));
        assert!(matches!(read(&[1; 11], false, 10).0, Err(Cut::TooLarge)));
        assert!(matches!(read(&[1; 10], false, 10).0, Ok((body, 10)) if body == [1; 10]));
        assert!(matches!(read(&[], false, 10).0, Ok((body, 0)) if body.is_empty()));
    }

    #[test]
    fn damaged_packing_is_never_a_body() {
        let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let good = packed(&data);
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 0xff;
        let longer = [good.as_slice(), b"x"].concat();
        for wire in [flipped.as_slice(), &good[..good.len() - 1], &good[..good.len() / 2], &longer, b"{}", b""] {
            assert!(matches!(read(wire, true, 1 << 30).0, Err(Cut::Broken(_))), "{} bytes", wire.len());
        }
    }

    #[test]
    fn a_refused_growth_and_a_stop_end_the_reading() {
        let mut on_growth = |_| Err(Error::new(Kind::Stopped, "no memory"));
        let mut limit = BodyLimit { max_bytes: 10, buffer: Vec::new(), on_growth: &mut on_growth };
        let cut = read_body(&[1u8; 5][..], false, &mut limit, || Ok(()));
        assert!(matches!(cut, Err(Cut::Stopped(e)) if e.kind() == Kind::Stopped));
        let mut fine = |_| Ok(());
        let mut limit = BodyLimit { max_bytes: 10, buffer: Vec::new(), on_growth: &mut fine };
        let cut = read_body(&[1u8; 5][..], false, &mut limit, || Err(Cut::Broken(io::ErrorKind::TimedOut.into())));
        assert!(matches!(cut, Err(Cut::Broken(_))));
    }
}

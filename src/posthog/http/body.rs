//! Reads an answer's body, bounded. Bodies are unpacked here and not by the HTTP library, so that the bound counts the
//! bytes that memory has to hold and not those that came over the wire.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use crate::error::{Error, Result};

/// The caller's memory decision hears of a body's growth in steps of this size.
const STEP_BYTES: usize = 1024 * 1024;
const FIRST_BYTES: usize = 64 * 1024;
/// Packed bytes that are read at once.
const WIRE_BYTES: usize = 64 * 1024;

/// How large a body may grow, and who is told while it grows.
pub struct BodyLimit<'a> {
    /// A body above this is cut off while it is read, which is a reason to ask for less.
    pub max_bytes: usize,
    /// Called with the size that the body is about to reach, before it does; may block, and may refuse. A second attempt
    /// starts small again.
    pub on_growth: Option<&'a mut dyn FnMut(usize) -> Result<()>>,
}

impl BodyLimit<'_> {
    /// So many bytes, and nobody is told.
    pub fn of(max_bytes: usize) -> BodyLimit<'static> {
        BodyLimit { max_bytes, on_growth: None }
    }
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
    /// It is gzip data, and the answer does not say so.
    Unlabelled,
    /// Somebody decided that the run ends.
    Stopped(Error),
}

/// A body that is read while it arrives, unpacked. A reader that gets an error does not learn more: what it means is kept
/// here, for the client.
pub struct Body<'a> {
    source: Source<'a>,
    max_bytes: usize,
    on_growth: Option<&'a mut dyn FnMut(usize) -> Result<()>>,
    check: &'a mut dyn FnMut() -> Result<(), Cut>,
    length: usize,
    announced: usize,
    is_ended: bool,
    cut: Option<Cut>,
}

type Member<'a> = GzDecoder<BufReader<Counted<&'a mut dyn Read>>>;

enum Source<'a> {
    Plain(Counted<&'a mut dyn Read>),
    /// The gzip member that is read now. Others may follow: some servers send one with each flush.
    Packed(Option<Box<Member<'a>>>),
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("length", &self.length).field("cut", &self.cut).finish_non_exhaustive()
    }
}

impl<'a> Body<'a> {
    /// The body that comes over `wire`. `check` is asked between reads.
    pub(crate) fn new(
        wire: &'a mut dyn Read,
        is_packed: bool,
        limit: &'a mut BodyLimit<'_>,
        check: &'a mut dyn FnMut() -> Result<(), Cut>,
    ) -> Body<'a> {
        let wire = Counted { inner: wire, bytes: 0 };
        let source = match is_packed {
            true => Source::Packed(Some(Box::new(GzDecoder::new(BufReader::with_capacity(WIRE_BYTES, wire))))),
            false => Source::Plain(wire),
        };
        let max_bytes = limit.max_bytes;
        let on_growth: Option<&'a mut dyn FnMut(usize) -> Result<()>> = match &mut limit.on_growth {
            Some(on_growth) => Some(&mut **on_growth),
            None => None,
        };
        Body { source, max_bytes, on_growth, check, length: 0, announced: 0, is_ended: false, cut: None }
    }

    /// Reads the rest of it.
    ///
    /// # Errors
    /// When it is not read to its end.
    pub fn whole(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.read_to_end(&mut body)?;
        Ok(body)
    }

    /// Bytes that were read so far, unpacked.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes that came over the wire so far.
    pub fn wire_bytes(&self) -> u64 {
        match &self.source {
            Source::Plain(wire) => wire.bytes,
            Source::Packed(member) => member.as_ref().map_or(0, |decoder| decoder.get_ref().get_ref().bytes),
        }
    }

    /// True once it was read to its end.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Why it was not read to its end.
    pub(crate) fn into_cut(self) -> Option<Cut> {
        self.cut
    }

    /// The first bytes of a body, of which so many were read: without a byte order mark, which JSON may have in front.
    fn begun(&self, buffer: &mut [u8], count: usize) -> Result<usize, Cut> {
        let first = buffer.get(..count).unwrap_or_default();
        if first.starts_with(GZIP) && matches!(self.source, Source::Plain(_)) {
            return Err(Cut::Unlabelled);
        }
        if count > BYTE_ORDER_MARK.len() && first.starts_with(BYTE_ORDER_MARK) {
            buffer.copy_within(BYTE_ORDER_MARK.len()..count, 0);
            return Ok(count - BYTE_ORDER_MARK.len());
        }
        Ok(count)
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Cut> {
        if self.length == self.announced {
            let step = if self.length == 0 { FIRST_BYTES } else { STEP_BYTES };
            // One byte above the limit is enough to see that it is passed.
            self.announced = (self.length + step).min(self.max_bytes.saturating_add(1));
            if let Some(on_growth) = &mut self.on_growth {
                on_growth(self.announced).map_err(Cut::Stopped)?;
            }
        }
        let most = buffer.len().min(self.announced - self.length);
        let count = loop {
            (self.check)()?;
            match self.source.read(buffer.get_mut(..most).unwrap_or_default()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(Cut::Broken)?,
            }
        };
        let count = if self.length == 0 { self.begun(buffer, count)? } else { count };
        self.length += count;
        self.is_ended = count == 0 && most > 0;
        if self.length > self.max_bytes { Err(Cut::TooLarge) } else { Ok(count) }
    }
}

/// What gzip data begin with, and no JSON.
const GZIP: &[u8] = &[0x1f];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_ended {
            return Ok(0);
        }
        if self.cut.is_none() {
            match self.next(buffer) {
                Ok(count) => return Ok(count),
                Err(cut) => self.cut = Some(cut),
            }
        }
        Err(io::Error::other("the body was not read to its end"))
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let member = match self {
            Source::Plain(wire) => return wire.read(buffer),
            Source::Packed(member) => member,
        };
        let Some(decoder) = member else { return Ok(0) };
        let count = decoder.read(buffer)?;
        // The end of a member is not yet the end of the transfer: the connection is only used again after both.
        if count > 0 || buffer.is_empty() || decoder.get_mut().fill_buf()?.is_empty() {
            return Ok(count);
        }
        *member = member.take().map(|ended| Box::new(GzDecoder::new(ended.into_inner())));
        // A member may be empty. Who reads looks between them whether the run should end.
        Err(io::ErrorKind::Interrupted.into())
    }
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

    fn read_by(
        mut wire: &[u8],
        is_packed: bool,
        limit: &mut BodyLimit<'_>,
        mut check: impl FnMut() -> Result<(), Cut>,
    ) -> Ended {
        let mut body = Body::new(&mut wire, is_packed, limit, &mut check);
        let whole = body.whole();
        assert_eq!(whole.is_ok(), body.is_ended());
        assert_eq!(body.read(&mut [0; 10]).ok(), whole.is_ok().then_some(0));
        let wire_bytes = body.wire_bytes();
        body.into_cut().map_or_else(|| Ok((whole.unwrap(), wire_bytes)), Err)
    }

    /// How reading ended, and the sizes that were announced.
    fn read(wire: &[u8], is_packed: bool, max_bytes: usize) -> (Ended, Vec<usize>) {
        let mut sizes = Vec::new();
        let mut on_growth = |bytes| {
            sizes.push(bytes);
            Ok(())
        };
        let mut limit = BodyLimit { max_bytes, on_growth: Some(&mut on_growth) };
        let result = read_by(wire, is_packed, &mut limit, || Ok(()));
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

    /// Some servers and proxies send a member with each flush.
    #[test]
    fn members_are_read_one_after_another_within_the_same_bound() {
        let parts: [&[u8]; 4] = [b"[1,", b"", &[b' '; 100_000], b"2]"];
        let wire: Vec<u8> = parts.iter().flat_map(|part| packed(part)).collect();
        let (body, wire_bytes) = read(&wire, true, 100_005).0.unwrap();
        assert!(body == parts.concat());
        assert_eq!(wire_bytes, wire.len() as u64);
        assert!(matches!(read(&wire, true, 100_004).0, Err(Cut::TooLarge)));
    }

    /// They unpack to nothing, so only a look between them ends the reading.
    #[test]
    fn empty_members_without_end_are_looked_at_in_between() {
        let empty = packed(b"");
        let wire = empty.repeat(100);
        let mut looks = 0;
        let mut check = || {
            looks += 1;
            if looks > 50 { Err(Cut::Broken(io::ErrorKind::TimedOut.into())) } else { Ok(()) }
        };
        assert!(matches!(read_by(&wire, true, &mut BodyLimit::of(10), &mut check), Err(Cut::Broken(_))));
    }

    #[test]
    fn a_body_without_its_label_is_named_and_a_byte_order_mark_is_no_part_of_it() {
        assert!(matches!(read(&packed(b"{}"), false, 100).0, Err(Cut::Unlabelled)));
        assert!(matches!(read("\u{feff}{}".as_bytes(), false, 100).0, Ok((body, 5)) if body == b"{}"));
        assert!(matches!(read(&packed("\u{feff}{}".as_bytes()), true, 100).0, Ok((body, _)) if body == b"{}"));
    }

    #[test]
    fn a_refused_growth_and_a_stop_end_the_reading() {
        let mut on_growth = |_| Err(Error::new(Kind::Stopped, "no memory"));
        let mut limit = BodyLimit { max_bytes: 10, on_growth: Some(&mut on_growth) };
        let cut = read_by(&[1u8; 5][..], false, &mut limit, || Ok(()));
        assert!(matches!(cut, Err(Cut::Stopped(e)) if e.kind() == Kind::Stopped));
        let cut =
            read_by(&[1u8; 5][..], false, &mut BodyLimit::of(10), || Err(Cut::Broken(io::ErrorKind::TimedOut.into())));
        assert!(matches!(cut, Err(Cut::Broken(_))));
    }
}

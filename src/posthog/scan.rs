//! A JSON scanner: over an owned buffer it decodes strings where they lie, over borrowed text it only finds places.
//!
//! Strict (no leading zeros, no raw control characters, nothing after the end) and bounded in depth. It looks at eight bytes
//! at a time with plain arithmetic: no `unsafe`, no instruction set beyond the baseline.

/// What a value is. Text is decoded in place; everything else stays as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number.
    Number,
    /// A string that needs no escaping when it is written again.
    PlainText,
    /// A string that does.
    Text,
    /// An array or object.
    Nested,
}

/// Arrays and objects inside a cell may nest this deep; the same bound as `serde_json`'s.
const MAX_DEPTH: u32 = 128;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// What the escapes of a string that was not decoded are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Escapes {
    /// There are none: the text between the quotes is the string.
    None,
    /// There are some, and they stand for characters.
    Some,
    /// Among them is half of a surrogate pair: the string has no UTF-8 form.
    LoneSurrogate,
}

/// A position in bytes that hold one JSON document, valid UTF-8.
#[derive(Debug)]
pub struct Scanner<B> {
    bytes: B,
    at: usize,
}

type Scan<T> = Result<T, String>;

impl<B: AsRef<[u8]>> Scanner<B> {
    /// A scanner at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: B) -> Self {
        Scanner { bytes, at: 0 }
    }

    /// The bytes, as far as they were passed with their strings decoded in place where they are owned.
    #[must_use]
    pub fn into_bytes(self) -> B {
        self.bytes
    }

    /// The bytes between two places.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.as_ref().get(start..end).unwrap_or(&[])
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.as_ref().get(at).copied()
    }

    #[inline]
    fn rest(&self) -> &[u8] {
        self.bytes.as_ref().get(self.at..).unwrap_or(&[])
    }

    /// Takes `byte` after white space.
    ///
    /// # Errors
    /// When something else stands there.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Scan<()> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong(&format!("`{}` expected", char::from(byte)))) }
    }

    /// Takes `byte` after white space if it stands there.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// After a member: true behind a comma, false behind `end`.
    ///
    /// # Errors
    /// When neither stands there.
    #[inline]
    pub fn next_or_end(&mut self, end: u8) -> Scan<bool> {
        if self.take(b',') { Ok(true) } else { self.expect(end).map(|()| false) }
    }

    /// Nothing but white space may follow.
    ///
    /// # Errors
    /// When something does.
    pub fn finish(&mut self) -> Scan<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.wrong("the document goes on after its end")) }
    }

    /// Any value as it is written: what it is, and where its bytes lie (of a string: with its quotes).
    ///
    /// # Errors
    /// When no well-formed value stands there.
    #[inline]
    pub fn raw_value(&mut self) -> Scan<(Token, Escapes, usize, usize)> {
        let Some(first) = self.peek() else { return Err(self.wrong("the document ends early")) };
        let start = self.at;
        let (token, escapes) = match first {
            b'"' => match self.skip_string()? {
                Escapes::None => (Token::PlainText, Escapes::None),
                escapes => (Token::Text, escapes),
            },
            _ => (self.other_value(first)?, Escapes::None),
        };
        Ok((token, escapes, start, self.at))
    }

    /// A value that is not a string.
    #[inline]
    fn other_value(&mut self, first: u8) -> Scan<Token> {
        match first {
            b'{' | b'[' => self.nested().map(|()| Token::Nested),
            b'n' => self.word(b"null", Token::Null),
            b't' => self.word(b"true", Token::True),
            b'f' => self.word(b"false", Token::False),
            _ => self.number(),
        }
    }

    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("{what} at byte {}", self.at)
    }

    fn word(&mut self, word: &[u8], token: Token) -> Scan<Token> {
        if !self.rest().starts_with(word) {
            return Err(self.wrong("a value expected"));
        }
        self.at += word.len();
        Ok(token)
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    #[inline]
    fn number(&mut self) -> Scan<Token> {
        let byte = |s: &Self| s.byte(s.at);
        self.at += usize::from(byte(self) == Some(b'-'));
        let leading_zero = byte(self) == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(self.wrong("a value expected"));
        }
        if byte(self) == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.wrong("a digit expected"));
            }
        }
        if matches!(byte(self), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(byte(self), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(self.wrong("a digit expected"));
            }
        }
        Ok(Token::Number)
    }

    /// Walks over an array or object, checking it; strings inside stay as they are.
    fn nested(&mut self) -> Scan<()> {
        // One bit a level: 1 = object.
        let mut objects = 0u128;
        let mut depth = 0u32;
        loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if depth == MAX_DEPTH {
                        return Err(self.wrong("the document nests too deep"));
                    }
                    self.at += 1;
                    depth += 1;
                    objects = objects << 1 | u128::from(open == b'{');
                    let close = if open == b'{' { b'}' } else { b']' };
                    if !self.take(close) {
                        if open == b'{' {
                            self.skip_key()?;
                        }
                        continue;
                    }
                    depth -= 1;
                    objects >>= 1;
                }
                Some(b'"') => self.skip_string().map(|_| ())?,
                Some(b'n') => self.word(b"null", Token::Null).map(|_| ())?,
                Some(b't') => self.word(b"true", Token::True).map(|_| ())?,
                Some(b'f') => self.word(b"false", Token::False).map(|_| ())?,
                _ => self.number().map(|_| ())?,
            }
            // A value ended: close what closes here, or go on with the next member.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if self.next_or_end(if object { b'}' } else { b']' })? {
                    if object {
                        self.skip_key()?;
                    }
                    break;
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    #[inline]
    fn skip_key(&mut self) -> Scan<()> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a key expected"));
        }
        self.skip_string()?;
        self.expect(b':')
    }

    #[inline]
    fn skip_string(&mut self) -> Scan<Escapes> {
        self.at += 1;
        let mut escapes = Escapes::None;
        loop {
            self.at += self.plain_run();
            match self.byte(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escapes);
                }
                Some(b'\\') => escapes = escapes.max(self.skip_escape()?),
                _ => return Err(self.wrong("a string does not end")),
            }
        }
    }

    fn skip_escape(&mut self) -> Scan<Escapes> {
        match self.byte(self.at + 1) {
            Some(b'u') => {
                let (character, count) = self.unicode()?;
                self.at += 6 * count;
                Ok(if character.is_some() { Escapes::Some } else { Escapes::LoneSurrogate })
            }
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(Escapes::Some)
            }
            _ => Err(self.wrong("an unknown escape")),
        }
    }

    /// The character of the `\u` escape here and how many escapes make it; none for half of a pair.
    fn unicode(&self) -> Scan<(Option<char>, usize)> {
        let first = self.unicode_unit(self.at)?;
        if !(0xd800..0xe000).contains(&first) {
            return Ok((char::from_u32(u32::from(first)), 1));
        }
        if first >= 0xdc00 || self.bytes.as_ref().get(self.at + 6..self.at + 8) != Some(b"\\u") {
            return Ok((None, 1));
        }
        let pair = [first, self.unicode_unit(self.at + 6)?];
        match char::decode_utf16(pair).next() {
            Some(Ok(character)) => Ok((Some(character), 2)),
            _ => Ok((None, 1)),
        }
    }

    fn unicode_unit(&self, at: usize) -> Scan<u16> {
        let hex = self.bytes.as_ref().get(at + 2..at + 6).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        hex.and_then(|hex| u16::from_str_radix(hex, 16).ok()).ok_or_else(|| self.wrong("an unknown escape"))
    }

    /// How many bytes from here on are ordinary: no quote, backslash or control character.
    #[inline]
    fn plain_run(&self) -> usize {
        let mut rest = self.rest();
        let mut run = 0;
        while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
            let hit = special(*chunk);
            run += hit;
            if hit < 8 {
                return run;
            }
            rest = after;
        }
        run + rest.iter().take_while(|b| !is_special(**b)).count()
    }
}

impl Scanner<Vec<u8>> {
    /// A string as an owned value.
    ///
    /// # Errors
    /// When no well-formed string stands there.
    pub fn string_value(&mut self) -> Scan<String> {
        let (token, start, end) = self.value()?;
        match token {
            Token::PlainText | Token::Text => Ok(String::from_utf8_lossy(self.slice(start, end)).into_owned()),
            _ => Err(self.wrong("a string expected")),
        }
    }

    /// Any value: what it is, and where its bytes lie (of a string: the decoded text without quotes).
    ///
    /// # Errors
    /// When no well-formed value stands there.
    pub fn value(&mut self) -> Scan<(Token, usize, usize)> {
        let Some(first) = self.peek() else { return Err(self.wrong("the document ends early")) };
        let start = self.at;
        if first == b'"' {
            self.at += 1;
            let (token, end) = self.decode_string()?;
            return Ok((token, start + 1, end));
        }
        let token = self.other_value(first)?;
        Ok((token, start, self.at))
    }

    /// Decodes the string that starts here (behind its quote), over itself. Gives the end of the decoded text.
    #[inline]
    fn decode_string(&mut self) -> Scan<(Token, usize)> {
        self.at += self.plain_run();
        let mut end = self.at;
        let mut token = Token::PlainText;
        loop {
            match self.byte(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((token, end));
                }
                Some(b'\\') => {
                    let (written, mut plain) = self.decode_escape(end)?;
                    end = self.move_run(end + written, &mut plain);
                    if !plain {
                        token = Token::Text;
                    }
                }
                _ => return Err(self.wrong("a string does not end")),
            }
        }
    }

    /// Copies what follows down to `to`: ordinary bytes, and the escapes `\"` and `\\` that JSON inside a string is full of.
    /// Stops at anything else; gives the end of the copy, and takes `plain` away where it copied an escape.
    fn move_run(&mut self, mut to: usize, plain: &mut bool) -> usize {
        let (bytes, mut at) = (self.bytes.as_mut_slice(), self.at);
        // Whole chunks may be written only where they end before the next byte to be read.
        while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).copied() {
            let run = special(chunk);
            if at >= to + 8 {
                if let Some(target) = bytes.get_mut(to..).and_then(|rest| rest.first_chunk_mut::<8>()) {
                    *target = chunk;
                }
            } else {
                bytes.copy_within(at..at + run, to);
            }
            to += run;
            at += run;
            if run < 8 {
                match bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()).copied() {
                    Some([b'\\', byte @ (b'"' | b'\\')]) => {
                        if let Some(target) = bytes.get_mut(to) {
                            *target = byte;
                        }
                        *plain = false;
                        to += 1;
                        at += 2;
                    }
                    _ => {
                        self.at = at;
                        return to;
                    }
                }
            }
        }
        // The last seven bytes of the body: byte by byte.
        while let Some(&byte) = bytes.get(at).filter(|byte| !is_special(**byte)) {
            if let Some(target) = bytes.get_mut(to) {
                *target = byte;
            }
            to += 1;
            at += 1;
        }
        self.at = at;
        to
    }

    /// Decodes the escape that starts here to `to`. Gives the bytes written, and whether the text stays plain.
    fn decode_escape(&mut self, to: usize) -> Scan<(usize, bool)> {
        let byte = match self.bytes.get(self.at + 1) {
            Some(b'u') => return self.decode_unicode(to),
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x8,
            Some(b'f') => 0xc,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            _ => return Err(self.wrong("an unknown escape")),
        };
        if let Some(target) = self.bytes.get_mut(to) {
            *target = byte;
        }
        self.at += 2;
        Ok((1, byte == b'/'))
    }

    /// A `\u` escape, or a pair of them. Half a pair becomes U+FFFD: there is no such character.
    fn decode_unicode(&mut self, to: usize) -> Scan<(usize, bool)> {
        let (character, count) = self.unicode()?;
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        let mut encoded = [0; 4];
        let text = character.encode_utf8(&mut encoded).as_bytes();
        if let Some(target) = self.bytes.get_mut(to..to + text.len()) {
            target.copy_from_slice(text);
        }
        self.at += 6 * count;
        Ok((text.len(), !character.is_ascii() || !is_special(text[0])))
    }
}

/// True for the bytes that end a run of ordinary text: quote, backslash, control characters.
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Where in eight bytes the first special one lies; 8 when there is none.
#[inline]
fn special(chunk: [u8; 8]) -> usize {
    let x = u64::from_le_bytes(chunk);
    // Classic zero-byte test: the lowest bit that is set is right, higher ones may not be.
    let zero = |v: u64| v.wrapping_sub(ONES) & !v;
    let hits = (zero(x ^ (ONES * 0x22)) | zero(x ^ (ONES * 0x5c)) | (x.wrapping_sub(ONES * 0x20) & !x)) & HIGHS;
    (hits.trailing_zeros() / 8) as usize
}

//! HTTP/1.1 on a socket, a thread per connection, kept alive; raw enough to cut a body short or reset a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::world::World;
use super::{Refusal, api};

/// A request as received.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Path and query string.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// How an answer goes wrong on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Spoil {
    No,
    /// The connection is reset instead of an answer.
    Reset,
    /// Nothing for so long, then a reset.
    Hang(Duration),
    /// Reset after half of the body.
    ResetMid,
    /// The connection ends after half of the body.
    Cut,
    /// The same with chunked transfer.
    ChunkedCut,
    /// The body in eight parts with a pause between them.
    Slow(Duration),
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) spoil: Spoil,
}

impl Reply {
    pub(crate) fn json(body: Vec<u8>) -> Reply {
        Reply { status: 200, content_type: "application/json", headers: Vec::new(), body, spoil: Spoil::No }
    }

    pub(crate) fn text(status: u16, content_type: &'static str, text: &str) -> Reply {
        Reply { status, content_type, ..Reply::json(text.as_bytes().to_vec()) }
    }

    pub(crate) fn refused(refusal: &Refusal) -> Reply {
        Reply { status: refusal.status, headers: refusal.headers.clone(), ..Reply::json(refusal.body()) }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Reply {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// Serves until the process ends.
pub(crate) fn serve(listener: &TcpListener, world: &Arc<Mutex<World>>) {
    for stream in listener.incoming().flatten() {
        let world = Arc::clone(world);
        // Queries are compiled by recursion, and hostile ones are deep.
        let _ = thread::Builder::new().stack_size(32 << 20).spawn(move || {
            // A client that goes away is the client's affair.
            let _ = converse(stream, &world);
        });
    }
}

fn converse(stream: TcpStream, world: &Mutex<World>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    while let Some(call) = receive(&mut input)? {
        let reply = api::answer(world, &call);
        if !send(&stream, &call, reply)? {
            return Ok(());
        }
    }
    Ok(())
}

fn receive(input: &mut impl BufRead) -> io::Result<Option<Call>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or("/").to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut call = Call { method, path, headers, body: Vec::new() };
    let length = call.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    call.body.resize(length, 0);
    input.read_exact(&mut call.body)?;
    Ok(Some(call))
}

/// Sends an answer; `false` when the connection is over.
fn send(mut stream: &TcpStream, call: &Call, reply: Reply) -> io::Result<bool> {
    let length = reply.body.len();
    let half = (length / 2).max(1).min(length);
    let chunked = reply.spoil == Spoil::ChunkedCut;
    let mut head = format!("HTTP/1.1 {} X\r\nServer: fake\r\nContent-Type: {}\r\n", reply.status, reply.content_type);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&if chunked {
        format!("Transfer-Encoding: chunked\r\n\r\n{half:x}\r\n")
    } else {
        format!("Content-Length: {length}\r\n\r\n")
    });
    match reply.spoil {
        Spoil::Reset | Spoil::Hang(_) => {
            if let Spoil::Hang(pause) = reply.spoil {
                thread::sleep(pause);
            }
            reset(stream);
            return Ok(false);
        }
        Spoil::ResetMid | Spoil::Cut | Spoil::ChunkedCut => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(&reply.body[..half])?;
            if reply.spoil == Spoil::ResetMid {
                // What was written is given a moment to arrive before the reset overtakes it.
                thread::sleep(Duration::from_millis(20));
                reset(stream);
            } else {
                stream.shutdown(Shutdown::Both)?;
            }
            return Ok(false);
        }
        Spoil::Slow(pause) => {
            stream.write_all(head.as_bytes())?;
            for part in reply.body.chunks(length.div_ceil(8).max(1)) {
                stream.write_all(part)?;
                thread::sleep(pause);
            }
        }
        Spoil::No => {
            let mut all = head.into_bytes();
            if call.method != "HEAD" {
                all.extend(&reply.body);
            }
            stream.write_all(&all)?;
        }
    }
    Ok(call.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")))
}

/// The coming close is seen as "connection reset" by the other side.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// `body`, compressed.
pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(body, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

//! A disk for tests: it fails the n-th call, and after a crash it has only what was synced.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::{Entry, Fs, FsFile};

/// What happens at the call that the countdown reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This call fails; the next ones work.
    Once,
    /// This call and all later ones fail: the process was killed, the disk keeps everything.
    Kill,
    /// As `Kill`, and the disk forgets what was not synced: the power went.
    PowerCut,
}

#[derive(Clone, Debug)]
enum Node {
    Dir { durable: BTreeMap<String, usize>, current: BTreeMap<String, usize> },
    File { durable: Vec<u8>, current: Vec<u8> },
}

/// A directory, a name there, and what has that name from now on.
type Half = (usize, String, Option<usize>);

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    /// Moves of directories that are not durable, as names in directories and what they become. A journal holds both halves
    /// or none: a directory never has two places.
    moved: Vec<[Half; 2]>,
    exchanges: bool,
    calls: usize,
    reads: usize,
    fail_at: usize,
    fault: Fault,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Mutex<State>>);

const ROOT: usize = 0;

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        let nodes = vec![Node::Dir { durable: BTreeMap::new(), current: BTreeMap::new() }];
        Memory(Arc::new(Mutex::new(State {
            nodes,
            moved: Vec::new(),
            exchanges: true,
            calls: 0,
            reads: 0,
            fail_at: usize::MAX,
            fault: Fault::Once,
        })))
    }

    /// A file system that cannot exchange two folders.
    pub fn without_exchange() -> Self {
        let memory = Memory::new();
        memory.0.lock().unwrap().exchanges = false;
        memory
    }

    /// Whether it can exchange two folders.
    pub fn exchanges(&self) -> bool {
        self.0.lock().unwrap().exchanges
    }

    /// Fails call number `n` from now on, counted from 0.
    pub fn fail_at(&self, n: usize, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        (state.calls, state.fail_at, state.fault) = (0, n, fault);
    }

    /// How many files were read.
    pub fn reads(&self) -> usize {
        self.0.lock().unwrap().reads
    }

    /// Starts the machine again. True if the fault had come.
    pub fn restart(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        let came = state.calls > state.fail_at;
        if came && state.fault == Fault::PowerCut {
            for node in &mut state.nodes {
                match node {
                    Node::Dir { durable, current } => current.clone_from(durable),
                    Node::File { durable, current } => current.clone_from(durable),
                }
            }
        }
        state.moved.clear();
        state.fail_at = usize::MAX;
        came
    }

    /// Every file below `dir`, with its content.
    pub fn files(&self, dir: &str) -> Vec<(String, Vec<u8>)> {
        let Ok(entries) = self.list(dir) else { return Vec::new() };
        let mut files = Vec::new();
        for entry in entries {
            let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
            if entry.is_dir {
                files.extend(self.files(&path))
            } else {
                files.push((path.clone(), self.read(&path).unwrap()))
            }
        }
        files
    }

    fn call<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        let at = state.calls - 1;
        if at == state.fail_at || (at > state.fail_at && state.fault != Fault::Once) {
            return Err(io::Error::other("the disk of the tests fails"));
        }
        act(&mut state)
    }
}

impl State {
    fn dir(&mut self, node: usize) -> io::Result<&mut BTreeMap<String, usize>> {
        match &mut self.nodes[node] {
            Node::Dir { current, .. } => Ok(current),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&mut self, path: &str) -> io::Result<usize> {
        let mut node = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            node = *self.dir(node)?.get(part).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn parent<'a>(&mut self, path: &'a str) -> io::Result<(usize, &'a str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(dir)?, name))
    }

    fn add(&mut self, path: &str, node: Node) -> io::Result<usize> {
        let (parent, name) = self.parent(path)?;
        let id = self.nodes.len();
        if self.dir(parent)?.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.dir(parent)?.insert(name.to_owned(), id);
        self.nodes.push(node);
        Ok(id)
    }

    fn move_to(&mut self, from: &str, to: &str, over: bool) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        if !over && self.dir(to_dir)?.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = self.dir(from_dir)?.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.dir(to_dir)?.insert(to.to_owned(), node);
        if matches!(self.nodes[node], Node::Dir { .. }) {
            self.moved.push([(from_dir, from.to_owned(), None), (to_dir, to.to_owned(), Some(node))]);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile(Memory, usize);

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.call(|state| {
            if let Node::File { current, .. } = &mut state.nodes[self.1] {
                current.extend_from_slice(bytes);
            }
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.call(|state| {
            if let Node::File { durable, current } = &mut state.nodes[self.1] {
                durable.clone_from(current);
            }
            Ok(())
        })
    }
}

impl Fs for Memory {
    fn create(&self, path: &str) -> io::Result<Box<dyn FsFile>> {
        let id = self.call(|state| state.add(path, Node::File { durable: Vec::new(), current: Vec::new() }))?;
        Ok(Box::new(MemoryFile(self.clone(), id)))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.call(|state| {
            let node = state.find(path)?;
            state.reads += 1;
            match &state.nodes[node] {
                Node::File { current, .. } => Ok(current.clone()),
                Node::Dir { .. } => Err(io::ErrorKind::IsADirectory.into()),
            }
        })
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        self.call(|state| {
            let node = state.find(path)?;
            let names = state.dir(node)?.clone();
            let entry =
                |(name, id): (String, usize)| Entry { name, is_dir: matches!(state.nodes[id], Node::Dir { .. }) };
            Ok(names.into_iter().map(entry).collect())
        })
    }

    fn make_dir(&self, path: &str) -> io::Result<bool> {
        self.call(|state| match state.add(path, Node::Dir { durable: BTreeMap::new(), current: BTreeMap::new() }) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|_| true),
        })
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.call(|state| {
            let node = state.find(path)?;
            if let Node::Dir { durable, current } = &mut state.nodes[node] {
                durable.clone_from(current);
            }
            let synced = |pair: &[Half; 2]| pair.iter().any(|(dir, _, _)| *dir == node);
            let halves: Vec<_> = state.moved.extract_if(.., |pair| synced(pair)).flatten().collect();
            for (dir, name, child) in halves {
                if let Node::Dir { durable, .. } = &mut state.nodes[dir] {
                    match child {
                        Some(child) => durable.insert(name, child),
                        None => durable.remove(&name),
                    };
                }
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|state| state.move_to(from, to, false))
    }

    fn is_same_file(&self, one: &str, other: &str) -> io::Result<bool> {
        self.call(|state| Ok(state.find(one)? == state.find(other)?))
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|state| state.move_to(from, to, true))
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        self.call(|state| {
            if !state.exchanges {
                return Err(io::Error::from_raw_os_error(22));
            }
            let ((one_dir, one), (other_dir, other)) = (state.parent(one)?, state.parent(other)?);
            let (a, b) = (state.dir(one_dir)?.get(one).copied(), state.dir(other_dir)?.get(other).copied());
            let (Some(a), Some(b)) = (a, b) else { return Err(io::ErrorKind::NotFound.into()) };
            state.dir(one_dir)?.insert(one.to_owned(), b);
            state.dir(other_dir)?.insert(other.to_owned(), a);
            state.moved.push([(one_dir, one.to_owned(), Some(b)), (other_dir, other.to_owned(), Some(a))]);
            Ok(())
        })
    }

    fn remove(&self, path: &str, _: bool) -> io::Result<()> {
        self.call(|state| {
            let (parent, name) = state.parent(path)?;
            state.dir(parent)?.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }
}

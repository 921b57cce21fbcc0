//! The real disk. Every step is taken from a directory handle without following symbolic links, so nothing that is planted
//! inside the output directory leads out of it. The directory itself may be a link.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};

use super::system::{self, Place};
use super::{Entry, Fs, FsFile};

/// The real disk.
#[derive(Debug)]
pub struct Disk {
    root: OwnedFd,
    /// Held for the life of the process: the lock dies with it, also on SIGKILL.
    lock: Option<OwnedFd>,
}

impl Disk {
    /// Opens the output directory, which is created with its parents if it does not exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        make_with_parents(path, |above| File::open(above)?.sync_all())?;
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Disk { root, lock: None })
    }

    /// Takes the lock file `path`. False if another process holds it.
    pub fn lock(&mut self, path: &str) -> io::Result<bool> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o666))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.lock = Some(file);
                Ok(true)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The directory that holds the last part of `path`, and that part.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let mut dir = self.root.try_clone()?;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if matches!(part, "" | "." | "..") {
                let text = format!("{path} is no path in the destination");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            if parts.peek().is_none() {
                return Ok((dir, part));
            }
            dir = open_dir(&dir, part)?;
        }
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn dir(&self, path: &str) -> io::Result<OwnedFd> {
        if path.is_empty() {
            return self.root.try_clone();
        }
        let (parent, name) = self.parent(path)?;
        open_dir(&parent, name)
    }
}

fn open_dir(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, &*name_there(dir, name)?, flags, Mode::empty())?)
}

/// The name in `dir` that [`Fs::list`] shows as `name`: another one only where it is not UTF-8.
fn name_there<'a>(dir: &OwnedFd, name: &'a str) -> io::Result<Cow<'a, OsStr>> {
    if name.contains(char::REPLACEMENT_CHARACTER) {
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy() == name {
                return Ok(Cow::Owned(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned()));
            }
        }
    }
    Ok(Cow::Borrowed(OsStr::new(name)))
}

/// Makes a folder with its parents, each made durable by `sync` of the folder above it.
fn make_with_parents(path: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        // Another process may make it at the same time.
        std::fs::create_dir_all(dir)?;
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        sync(above.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Renames on a file system that cannot be told not to replace: a hard link has the same promise. A folder has no second
/// link, and is renamed over an empty folder at most.
fn rename_without_flag((from_dir, from): Place<'_>, (to_dir, to): Place<'_>) -> io::Result<()> {
    let stat = rustix::fs::statat(from_dir, from, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Ok(rustix::fs::renameat(from_dir, from, to_dir, to)?);
    }
    rustix::fs::linkat(from_dir, from, to_dir, to, AtFlags::empty())?;
    Ok(rustix::fs::unlinkat(from_dir, from, AtFlags::empty())?)
}

#[derive(Debug)]
struct DiskFile(File);

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl FsFile for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Fs for Disk {
    fn create(&self, path: &str) -> io::Result<Box<dyn FsFile>> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Box::new(DiskFile(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o666))?.into())))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let (dir, name) = self.parent(path)?;
        // Without waiting for anybody who writes into a pipe that stands there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(content)
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let dir = self.dir(path)?;
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode).is_dir()
                }
                told => told.is_dir(),
            };
            entries.push(Entry { name: name.to_string_lossy().into_owned(), is_dir });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn make_dir(&self, path: &str) -> io::Result<bool> {
        let (dir, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(true),
            // Also refuses a symbolic link that stands in the directory's place.
            Err(rustix::io::Errno::EXIST) => open_dir(&dir, name).map(|_| false),
            Err(e) => Err(e.into()),
        }
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        // The library's own call: on Apple's systems an fsync alone leaves the bytes in the disk's cache.
        File::from(self.dir(path)?).sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        match system::rename_alone((&from_dir, from), (&to_dir, to)) {
            Err(e) if system::is_lacking(&e) => rename_without_flag((&from_dir, from), (&to_dir, to)),
            other => other,
        }
    }

    fn is_same_file(&self, one: &str, other: &str) -> io::Result<bool> {
        let ((one_dir, one), (other_dir, other)) = (self.parent(one)?, self.parent(other)?);
        let one = rustix::fs::statat(&one_dir, one, AtFlags::SYMLINK_NOFOLLOW)?;
        let other = rustix::fs::statat(&other_dir, other, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        Ok(rustix::fs::renameat(&from_dir, from, &to_dir, to)?)
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let ((one_dir, one), (other_dir, other)) = (self.parent(one)?, self.parent(other)?);
        system::exchange((&one_dir, one), (&other_dir, other))
    }

    fn remove(&self, path: &str, is_dir: bool) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(&dir, &*name_there(&dir, name)?, flags)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_without_the_flag_replace_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let rename = |from: &str, to: &str| {
            let ((from_dir, from), (to_dir, to)) = (disk.parent(from).unwrap(), disk.parent(to).unwrap());
            rename_without_flag((&from_dir, from), (&to_dir, to))
        };
        for folder in ["a", "full", "full/x"] {
            disk.make_dir(folder).unwrap();
        }
        for (file, text) in [("a/file", "one"), ("other", "two")] {
            disk.create(file).unwrap().write_all(text.as_bytes()).unwrap();
        }
        rename("a", "full/b").unwrap();
        assert_eq!(disk.read("full/b/file").unwrap(), b"one");
        assert!(rename("full/b", "full/x").is_ok() && rename("full/x", "full").is_err());
        assert!(rename("other", "full/x/file").is_err());
        rename("other", "third").unwrap();
        assert_eq!(
            (disk.read("full/x/file").unwrap(), disk.read("third").unwrap()),
            (b"one".to_vec(), b"two".to_vec())
        );
    }

    #[test]
    fn parents_of_a_new_destination_are_synced() {
        let dir = tempfile::tempdir().unwrap();
        let mut synced = Vec::new();
        make_with_parents(&dir.path().join("a/b/out"), |above| {
            synced.push(above.strip_prefix(dir.path()).unwrap().to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(synced, ["", "a", "a/b"].map(std::path::PathBuf::from));
        assert!(dir.path().join("a/b/out").is_dir());
        make_with_parents(&dir.path().join("a/b/out"), |above| panic!("{above:?}")).unwrap();
        assert!(make_with_parents(&dir.path().join("x"), |_| Err(io::ErrorKind::Other.into())).is_err());
    }

    #[test]
    fn no_path_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(&dir.path().join("out")).unwrap();
        std::fs::write(dir.path().join("mine"), "x").unwrap();
        for path in ["../mine", "./../mine", "a/../../mine", "/mine", "..", "."] {
            assert!(disk.read(path).is_err() && disk.remove(path, false).is_err(), "{path}");
            assert!(disk.list(path).is_err(), "{path}");
        }
    }
}

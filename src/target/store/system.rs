//! What systems do each in their own way: the one place that asks which system this is. Linux and those of Apple can rename
//! without replacing and exchange two names in one step. On any other Unix these calls fail as they do on a file system that
//! cannot, so the ways around are the same.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// A name in an open folder.
pub type Place<'a> = (&'a OwnedFd, &'a str);

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod calls {
    use rustix::fs::{RenameFlags, renameat_with};

    use super::{Errno, Place};

    pub(super) fn rename_alone((from_dir, from): Place<'_>, (to_dir, to): Place<'_>) -> Result<(), Errno> {
        renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE)
    }

    pub(super) fn exchange((one_dir, one): Place<'_>, (other_dir, other): Place<'_>) -> Result<(), Errno> {
        renameat_with(one_dir, one, other_dir, other, RenameFlags::EXCHANGE)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod calls {
    use super::{Errno, Place};

    pub(super) fn rename_alone(_: Place<'_>, _: Place<'_>) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    pub(super) fn exchange(_: Place<'_>, _: Place<'_>) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}

/// Renames, and fails where the new name exists. Not every system can, see [`is_lacking`].
pub fn rename_alone(from: Place<'_>, to: Place<'_>) -> io::Result<()> {
    Ok(calls::rename_alone(from, to)?)
}

/// Gives each of two directories the other's name. Not every system can, see [`is_lacking`].
pub fn exchange(one: Place<'_>, other: Place<'_>) -> io::Result<()> {
    Ok(calls::exchange(one, other)?)
}

/// True for the error of a system or a file system that does not have the call. The numbers differ from system to system.
pub fn is_lacking(error: &io::Error) -> bool {
    let lacking = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
    Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_replaces_nothing_and_an_exchange_swaps_or_the_system_says_that_it_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        for (name, text) in [("one", "1"), ("other", "2")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("file"), text).unwrap();
        }
        let refused = rename_alone((&root, "one"), (&root, "other")).unwrap_err();
        assert!(refused.kind() == io::ErrorKind::AlreadyExists || is_lacking(&refused), "{refused}");
        let text = || std::fs::read_to_string(dir.path().join("one/file")).unwrap();
        match exchange((&root, "one"), (&root, "other")) {
            Ok(()) => assert_eq!(text(), "2"),
            Err(e) => assert!(is_lacking(&e) && text() == "1", "{e}"),
        }
    }

    #[test]
    fn what_a_system_lacks_is_told_from_what_goes_wrong() {
        for lacking in [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP] {
            assert!(is_lacking(&lacking.into()), "{lacking}");
        }
        for wrong in [Errno::EXIST, Errno::NOSPC, Errno::IO, Errno::ACCESS, Errno::NOENT] {
            assert!(!is_lacking(&wrong.into()), "{wrong}");
        }
    }
}

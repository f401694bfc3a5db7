//! `Dir`: a directory that is held open.
//!
//! Promise: operations work in the directory that was opened, even if its path now leads elsewhere,
//! and follow no symbolic link.
//! Must not know: `batch`, `repr`, `time`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
#[cfg(test)]
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

#[cfg(test)]
use super::tests::disk;

/// A directory that is held open.
pub(super) struct Dir {
    file: File,
    /// Its path when it was opened.
    #[cfg(test)]
    path: PathBuf,
}

/// Modes of new directories and files, before the user's mask.
const DIR_MODE: Mode = Mode::from_raw_mode(0o777);
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// Nesting depth of the directories that are removed. Each level takes a descriptor and a stack
/// frame.
const DEPTH_MAX: u32 = 64;

impl Dir {
    /// Opens the directory at `path`, through symbolic links too.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Dir {
            file: file.into(),
            #[cfg(test)]
            path: path.to_owned(),
        })
    }

    /// Opens its subdirectory `name`.
    ///
    /// # Errors
    ///
    /// It is a symbolic link, or no directory.
    pub(super) fn open_in(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match retry_on_intr(|| rustix::fs::openat(&self.file, name, flags, Mode::empty())) {
            Ok(file) => Ok(Dir {
                file: file.into(),
                #[cfg(test)]
                path: self.path.join(name),
            }),
            Err(_) if self.is_link(name) => Err(io::Error::other(
                "a symbolic link is in its place; links are not followed",
            )),
            Err(cause) => Err(cause.into()),
        }
    }

    fn is_link(&self, name: &OsStr) -> bool {
        rustix::fs::readlinkat(&self.file, name, Vec::new()).is_ok()
    }

    /// Makes the directory `name`, which must not exist.
    pub(super) fn make(&self, name: &OsStr) -> io::Result<()> {
        rustix::fs::mkdirat(&self.file, name, DIR_MODE)?;
        #[cfg(test)]
        disk::made(&self.path.join(name));
        Ok(())
    }

    /// Creates the file `name`, which must not exist, for writing.
    pub(super) fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::openat(&self.file, name, flags, FILE_MODE))?;
        #[cfg(test)]
        disk::created(&self.path.join(name));
        Ok(file.into())
    }

    /// Moves `name` to another directory and name, and replaces what is there.
    pub(super) fn rename(&self, name: &OsStr, to: &Dir, to_name: &OsStr) -> io::Result<()> {
        rustix::fs::renameat(&self.file, name, &to.file, to_name)?;
        #[cfg(test)]
        disk::renamed(&self.path.join(name), &to.path.join(to_name));
        Ok(())
    }

    /// Removes the file or link `name`.
    pub(super) fn remove(&self, name: &OsStr) -> io::Result<()> {
        rustix::fs::unlinkat(&self.file, name, AtFlags::empty())?;
        #[cfg(test)]
        disk::removed(&self.path.join(name));
        Ok(())
    }

    /// Removes the directory `name`, which must be empty.
    pub(super) fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        rustix::fs::unlinkat(&self.file, name, AtFlags::REMOVEDIR)?;
        Ok(())
    }

    /// Removes all its content, subdirectories included. Links are removed, not followed.
    ///
    /// # Errors
    ///
    /// A name cannot be removed, or directories are nested deeper than any run makes them.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.clear_to(DEPTH_MAX)
    }

    fn clear_to(&self, depth: u32) -> io::Result<()> {
        for name in self.names()? {
            if name == "." || name == ".." {
                continue;
            }
            match rustix::fs::unlinkat(&self.file, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                // For a directory: the error of Linux, and that of POSIX.
                Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {
                    self.open_in(&name)?.clear_to(depth - 1)?;
                    self.remove_dir(&name)?;
                }
                Err(cause) => return Err(cause.into()),
            }
        }
        Ok(())
    }

    /// The names in it, `.` and `..` among them.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = retry_on_intr(|| rustix::fs::Dir::read_from(&self.file))?;
        let names = entries.map(|entry| {
            let name = entry?.file_name().to_bytes().to_vec();
            Ok(OsString::from_vec(name))
        });
        names.collect()
    }

    /// Flushes its names to disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()?;
        #[cfg(test)]
        disk::synced(&self.path);
        Ok(())
    }

    /// Flushes the content of its file `name` to disk.
    pub(super) fn sync_file(&self, _name: &OsStr, file: &File) -> io::Result<()> {
        file.sync_all()?;
        #[cfg(test)]
        disk::synced(&self.path.join(_name));
        Ok(())
    }
}

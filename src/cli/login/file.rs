//! The file that `upwarden login` writes.
//!
//! In: a place, a token. Out: a whole file that only its owner can read, or none. It replaces nothing unless it is told to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::{self, Failure};
use crate::seal::random_id;

/// Where the token will go; told before anybody signs in for nothing.
pub(super) fn place(out: Option<PathBuf>, force: bool) -> Result<PathBuf, Failure> {
    let out = out.ok_or_else(|| {
        Failure::Usage(
            "--out FILE says where the refresh token goes, where service.refresh_token_file does not".to_owned(),
        )
    })?;
    if !force && out.symlink_metadata().is_ok() {
        return Err(there(&out));
    }
    match parent(&out).metadata() {
        Ok(folder) if folder.is_dir() && out.file_name().is_some() => Ok(out),
        _ => Err(Failure::Other(format!("upwarden login: {} is in no folder that is there", out.display()))),
    }
}

fn there(out: &Path) -> Failure {
    Failure::Other(format!("upwarden login: {} is there already; choose another --out, or say --force", out.display()))
}

fn parent(out: &Path) -> &Path {
    out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes beside it first, so that whoever reads finds all of it or nothing.
pub(super) fn write(out: &Path, token: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::Other(format!("{} cannot be written: {error}", out.display()));
    let name = random_id().map_err(cli::failed)?;
    let draft = parent(out).join(format!(".upwarden-login-{name}"));
    let written = draft_of(&draft, token).and_then(|()| {
        // A link, unlike a rename, replaces nothing.
        if force { fs::rename(&draft, out) } else { fs::hard_link(&draft, out) }
    });
    // After a rename there is nothing to take away.
    let _ = fs::remove_file(&draft);
    match written {
        Ok(()) => File::open(parent(out)).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(there(out)),
        Err(error) => Err(failed(&error)),
    }
}

fn draft_of(draft: &Path, token: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(token.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_whole_private_and_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("token");
        write(&out, "one", false).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "one\n");
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(write(&out, "two", false), Err(Failure::Other(why)) if why.contains("--force")));
        assert!(place(Some(out.clone()), false).is_err() && place(Some(out.clone()), true).is_ok());
        write(&out, "two", true).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "two\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        assert!(place(None, false).is_err() && place(Some(folder.path().join("no/such")), false).is_err());
    }
}

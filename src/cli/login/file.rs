//! The file that `upwarden login` writes: complete, readable only by its owner, and never over an existing one unless forced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::seal::random;

/// Checks, before anyone signs in, that the file can be written.
pub(super) fn check(out: &Path, force: bool) -> Result<(), String> {
    if !force && out.symlink_metadata().is_ok() {
        return Err(exists(out));
    }
    match parent(out).metadata() {
        Ok(folder) if folder.is_dir() && out.file_name().is_some() => Ok(()),
        Ok(_) | Err(_) => Err(format!("the folder of {} does not exist", out.display())),
    }
}

fn exists(out: &Path) -> String {
    format!("{} exists; choose another --out, or use --force", out.display())
}

fn parent(out: &Path) -> &Path {
    out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a draft beside it first, so that readers find the whole token or nothing.
pub(in crate::cli) fn write(out: &Path, token: &str, force: bool) -> Result<(), String> {
    let name = random().map(u128::from_ne_bytes).map_err(|error| error.to_string())?;
    let draft = parent(out).join(format!(".upwarden-login-{name:032x}"));
    let written = write_draft(&draft, token).and_then(|()| {
        // A link, unlike a rename, replaces nothing.
        if force { fs::rename(&draft, out) } else { fs::hard_link(&draft, out) }
    });
    // After a rename the draft is gone already.
    let _ = fs::remove_file(&draft);
    match written.and_then(|()| File::open(parent(out))?.sync_all()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(out)),
        Err(error) => Err(format!("{} cannot be written: {error}", out.display())),
    }
}

fn write_draft(draft: &Path, token: &str) -> io::Result<()> {
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
    fn a_file_is_complete_private_and_replaced_only_if_forced() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("token");
        write(&out, "one", false).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "one\n");
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&out, "two", false).unwrap_err().contains("--force"));
        assert!(check(&out, false).is_err() && check(&out, true).is_ok());
        write(&out, "two", true).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "two\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        assert!(check(&folder.path().join("no/such"), false).is_err());
    }
}

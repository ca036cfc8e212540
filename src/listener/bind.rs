//! Binds an [`Address`] to a listening socket.
//!
//! A Unix socket is created under a temporary name, gets its mode and owner, and is then renamed. So nothing can
//! connect to it with other permissions, and a stale file is replaced in the same step. The file is removed with its
//! [`Bound`], unless another file has replaced it.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

/// Where a door listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; with port 0 the system chooses one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// Its permission bits, such as `0o660`.
        mode: u32,
        /// Its owner; `None` for the process's own user and group.
        owner: Option<Owner>,
    },
}

/// User and group by number; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Named in errors.
    pub(crate) key: &'static str,
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
}

impl Owner {
    /// Only root may change a file's user; its owner may set a group of which it is a member.
    fn set(self, path: &Path) -> Result<()> {
        let Self { key, user, group } = self;
        std::os::unix::fs::chown(path, user, group).map_err(|error| {
            let id = |id: Option<u32>| id.map_or_else(String::new, |id| id.to_string());
            let why = format!(
                "it cannot be given to {}:{} ({key}): {error}. Without root, leave the user out, and name a group \
                 that this process is in",
                id(user),
                id(group)
            );
            Error::new(error.kind(), why)
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Connections that the system queues until we accept them.
const BACKLOG: u32 = 1024;

/// A listening socket; one made elsewhere is converted by `From`.
#[derive(Debug)]
pub struct Bound {
    pub(super) socket: BoundSocket,
    /// Whether a supervisor keeps it open: connections in its queue are then for the next process.
    pub(super) passed: bool,
    // Dropped after the socket, in the order of the fields.
    pub(super) file: Option<SocketFile>,
}

#[derive(Debug)]
pub(super) enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(UnixListener),
}

/// The file of a Unix socket, removed on drop unless another has replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode)) {
            // The next start replaces a stale file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl From<std::net::TcpListener> for Bound {
    fn from(listener: std::net::TcpListener) -> Self {
        Self { socket: BoundSocket::Tcp(listener), passed: false, file: None }
    }
}

impl From<UnixListener> for Bound {
    fn from(listener: UnixListener) -> Self {
        Self { socket: BoundSocket::Unix(listener), passed: false, file: None }
    }
}

/// The sockets that a supervisor passed to this process by `LISTEN_FDS` (`sd_listen_fds(3)`), which forgets them. Call it
/// before there are threads: it changes the environment.
pub(crate) fn passed() -> Result<Vec<Bound>> {
    let mut sockets = ListenFd::from_env();
    let count = sockets.len();
    let one = |index| -> Result<Option<Bound>> {
        // Not TCP: then it must be the other kind.
        let socket = match sockets.take_tcp_listener(index) {
            Ok(listener) => listener.map(BoundSocket::Tcp),
            Err(_) => sockets.take_unix_listener(index)?.map(BoundSocket::Unix),
        };
        Ok(socket.map(|socket| Bound { socket, passed: true, file: None }))
    };
    (0..count).map(one).filter_map(Result::transpose).collect()
}

impl Bound {
    /// The TCP address with its actual port; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            BoundSocket::Tcp(listener) => listener.local_addr().ok(),
            BoundSocket::Unix(_) => None,
        }
    }

    /// The TCP socket; `None` for a Unix socket.
    pub fn into_tcp(self) -> Option<std::net::TcpListener> {
        match self.socket {
            BoundSocket::Tcp(listener) => Some(listener),
            BoundSocket::Unix(_) => None,
        }
    }

    /// Whether this socket listens at this address.
    pub(crate) fn is_at(&self, address: &Address) -> bool {
        match (&self.socket, address) {
            (BoundSocket::Tcp(listener), Address::Tcp(address)) => listener.local_addr().is_ok_and(|at| at == *address),
            (BoundSocket::Unix(listener), Address::Unix { path, .. }) => {
                listener.local_addr().is_ok_and(|at| at.as_pathname() == Some(path))
            }
            (BoundSocket::Tcp(_), Address::Unix { .. }) | (BoundSocket::Unix(_), Address::Tcp(_)) => false,
        }
    }

    /// For display: `127.0.0.1:4180`, `unix:/run/upwarden/neighbour.sock`.
    pub fn local(&self) -> String {
        match (&self.socket, &self.file) {
            (BoundSocket::Tcp(listener), _) => {
                listener.local_addr().map_or_else(|_| "?".to_owned(), |at| at.to_string())
            }
            (BoundSocket::Unix(_), Some(file)) => format!("unix:{}", file.path.display()),
            (BoundSocket::Unix(listener), None) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(std::os::unix::net::SocketAddr::as_pathname);
                path.map_or_else(|| "unix:?".to_owned(), |path| format!("unix:{}", path.display()))
            }
        }
    }
}

/// Binds and listens.
///
/// Errors: the system's, [`ErrorKind::AddrInUse`] also if a process answers on the Unix socket, and
/// [`ErrorKind::AlreadyExists`] if its path is a file that is not a socket.
pub fn bind(address: &Address) -> Result<Bound> {
    match address {
        Address::Tcp(address) => tcp(*address).map(Bound::from),
        Address::Unix { path, mode, owner } => unix(path, *mode, *owner),
    }
}

fn tcp(address: SocketAddr) -> Result<std::net::TcpListener> {
    let listen = || -> Result<std::net::TcpListener> {
        let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
        // A restart must not wait for the old process's connections to leave TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    if tokio::runtime::Handle::try_current().is_ok() {
        return listen();
    }
    // tokio makes a listener only on a runtime, even if it is converted at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    listen()
}

fn unix(path: &Path, mode: u32, owner: Option<Owner>) -> Result<Bound> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(Error::new(ErrorKind::AlreadyExists, "the path is a file that is not a socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(Error::new(ErrorKind::AddrInUse, "another process is listening there"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    // A leftover of a process with the same id that died in this function.
    let _ = std::fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft)?;
    let place = || -> Result<SocketFile> {
        if let Some(owner) = owner {
            owner.set(&draft)?;
        }
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(mode))?;
        let placed = std::fs::symlink_metadata(&draft)?;
        std::fs::rename(&draft, path)?;
        Ok(SocketFile { path: path.to_owned(), device: placed.dev(), inode: placed.ino() })
    };
    let file = place().inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })?;
    Ok(Bound { socket: BoundSocket::Unix(listener), passed: false, file: Some(file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_port_is_bound_without_a_runtime() {
        let bound = bind(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        assert_ne!(bound.local_addr().unwrap().port(), 0);
        let again = bind(&Address::Tcp(bound.local_addr().unwrap())).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_stale_socket_is_replaced_but_not_a_live_one_nor_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        let address = Address::Unix { path: path.clone(), mode: 0o640, owner: None };
        let stale = UnixListener::bind(&path).unwrap();
        drop(stale);
        let bound = bind(&address).unwrap();
        assert_eq!(bound.local(), format!("unix:{}", path.display()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(bind(&address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        assert_eq!(bind(&address).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_socket_that_another_process_has_created_since_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        let bound = bind(&Address::Unix { path: path.clone(), mode: 0o600, owner: None }).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }
}

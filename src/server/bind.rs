//! Listening sockets, of both address families where there are both.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Linux' number for an address family that the kernel does not have: <https://man7.org/linux/man-pages/man2/socket.2.html>
const EAFNOSUPPORT: i32 = 97;

// Both are awaited, so that there is a runtime, which sockets register with.

/// Binds a TCP listener at this address and no other; at `[::]` it answers both families.
///
/// # Errors
/// The address is taken, not ours, of a family that is not there, or the port is reserved.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    open(address).map_err(|error| explain(address, &error))
}

/// Binds a TCP listener at every address of this machine, of both families, or of IPv4 alone where there is no IPv6.
///
/// # Errors
/// The port is taken or reserved.
pub async fn bind_everywhere(port: u16) -> Result<TcpListener> {
    open_everywhere(port, open)
}

fn explain(address: SocketAddr, error: &Error) -> Error {
    Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

/// Opens IPv6's address for everything, or IPv4's where there is no IPv6. Another failure is no reason to answer fewer than were meant.
fn open_everywhere<T>(port: u16, open: impl Fn(SocketAddr) -> Result<T>) -> Result<T> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let error = match open(both) {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    if !lacks_family(&error) {
        return Err(explain(both, &error));
    }
    tracing::info!("this machine has no IPv6 ({error}): listening on IPv4 alone");
    let one = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    open(one).map_err(|error| explain(one, &error))
}

/// Whether a socket could not be opened because its address family is not there: the kernel is without it, or no device has it.
fn lacks_family(error: &Error) -> bool {
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == ErrorKind::AddrNotAvailable
}

fn open(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    // As the standard library does: a restart does not wait for connections that have just ended.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What is opened, in order, where opening the first fails so.
    fn opened(first: Option<Error>) -> (Vec<String>, Result<()>) {
        let (first, asked) = (RefCell::new(first), RefCell::new(Vec::new()));
        let result = open_everywhere(8443, |address| {
            asked.borrow_mut().push(address.to_string());
            first.borrow_mut().take().map_or(Ok(()), Err)
        });
        (asked.into_inner(), result)
    }

    #[test]
    fn open_everywhere_takes_ipv4_only_where_there_is_no_ipv6() {
        let (asked, result) = opened(None);
        assert_eq!(asked, ["[::]:8443"]);
        result.unwrap();
        // EAFNOSUPPORT, EADDRNOTAVAIL
        for number in [97, 99] {
            let (asked, result) = opened(Some(Error::from_raw_os_error(number)));
            assert_eq!(asked, ["[::]:8443", "0.0.0.0:8443"], "{number}");
            result.unwrap();
        }
        // EADDRINUSE, EACCES, EMFILE: IPv4 alone would hide them.
        for number in [98, 13, 24] {
            let (asked, result) = opened(Some(Error::from_raw_os_error(number)));
            assert_eq!(asked, ["[::]:8443"], "{number}");
            let said = result.unwrap_err().to_string();
            assert!(said.starts_with("cannot listen on [::]:8443: "), "{said}");
        }
    }

    /// A given address is that one or an error.
    #[tokio::test]
    async fn bind_says_which_address_it_cannot_have() {
        // Addresses for documentation, which no machine has: https://www.rfc-editor.org/rfc/rfc5737
        for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            let said = bind(address.parse().unwrap())
                .await
                .unwrap_err()
                .to_string();
            let expected = format!("cannot listen on {address}: ");
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[tokio::test]
    async fn bind_answers_both_families_where_no_address_is_given() {
        let listener = bind_everywhere(0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
        if open((Ipv6Addr::LOCALHOST, 0).into()).is_ok() {
            addresses.push((Ipv6Addr::LOCALHOST, port).into());
        } else {
            println!("this machine has no IPv6: IPv4 alone is shown");
        }
        for address in addresses {
            let (came, went) =
                tokio::join!(listener.accept(), tokio::net::TcpStream::connect(address));
            came.unwrap();
            went.unwrap();
        }
    }
}

//! Who is at the other end of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::Request;

/// The address that a request comes from: of the caller, or of what translates addresses between, as kube-proxy does for a NodePort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

impl PeerAddress {
    /// That of a connection. A socket of both families shows IPv4 as a part of IPv6.
    pub(super) fn of_connection(peer: SocketAddr) -> Self {
        Self(peer.ip().to_canonical())
    }

    /// Where the listener had a request from; of one that came another way the address of nobody.
    pub fn of(request: &Request) -> Self {
        let found = request.extensions().get::<Self>().copied();
        found.unwrap_or(Self(Ipv6Addr::UNSPECIFIED.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_one_address_of_a_caller_whatever_socket_it_came_by() {
        for (peer, address) in [
            ("192.0.2.1:4", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:4", "192.0.2.1"),
            ("[2001:db8::1]:4", "2001:db8::1"),
        ] {
            let peer = PeerAddress::of_connection(peer.parse().unwrap());
            assert_eq!(peer.0, address.parse::<IpAddr>().unwrap());
        }
        let request = Request::default();
        assert!(PeerAddress::of(&request).0.is_unspecified());
    }
}

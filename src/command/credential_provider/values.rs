//! Values of arguments: an address, a name, a path of a node. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::{DnsName, ServerName};

/// Reads `HOST:PORT`.
///
/// # Errors
/// It is another form.
pub(in crate::command) fn parse_host_port(text: &str) -> Result<String, String> {
    const FORM: &str = "write it as HOST:PORT, such as 10.96.0.80:8444";
    if text.contains('/') {
        return Err("write it without https:// and path, such as 10.96.0.80:8444".to_owned());
    }
    let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name_or_ipv4(host),
    };
    if is_port && is_host {
        Ok(text.to_owned())
    } else {
        Err(FORM.to_owned())
    }
}

/// Reads `HOST:PORT` of something that a node can find.
///
/// # Errors
/// It is another form, or a name that only the cluster's DNS knows.
pub(in crate::command) fn parse_address(text: &str) -> Result<String, String> {
    let address = parse_host_port(text)?;
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    if host
        .split('.')
        .any(|label| label.eq_ignore_ascii_case("svc"))
    {
        return Err(format!(
            "{host} is a name in the cluster's DNS, which nodes do not ask: give the address of the Service, broker.service.clusterIP of the chart"
        ));
    }
    Ok(address)
}

/// Reads the name of a certificate.
///
/// # Errors
/// No certificate is for such a name.
pub(in crate::command) fn parse_server_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(
            "write a DNS name or an address, such as pullpass.pullpass.svc: the certificate is for its Service"
                .to_owned(),
        ),
    }
}

/// Reads a path of a node, which stands in scripts as it is: where the kubelet is is not where this runs.
///
/// # Errors
/// It is none, or has characters that a shell reads.
pub(in crate::command) fn parse_node_path(text: &str) -> Result<String, String> {
    let names = text.strip_prefix('/');
    let names =
        names.ok_or("write the whole path, as it will be on the node: /etc/pullpass/ca.crt")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(is_plain);
    if names.split('/').all(is_name) {
        Ok(text.to_owned())
    } else {
        Err(
            "write the path of a file, of letters, digits, `.`, `_` and `-`: /etc/pullpass/ca.crt"
                .to_owned(),
        )
    }
}

/// Whether nodes can be told to go there: an IPv4 address, or a name that is none of the wrong numbers.
fn is_name_or_ipv4(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok() || DnsName::try_from(host).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_that_a_node_can_find() {
        for good in [
            "10.96.0.80:8444",
            "[fd00::1]:8444",
            "broker.example.com:443",
            "localhost:1",
        ] {
            assert_eq!(parse_address(good).as_deref(), Ok(good));
        }
        for (bad, problem) in [
            ("", "HOST:PORT"),
            ("10.96.0.80", "HOST:PORT"),
            (":8444", "HOST:PORT"),
            ("a:0", "HOST:PORT"),
            ("a:+5", "HOST:PORT"),
            ("a:65536", "HOST:PORT"),
            ("fd00::1:8444", "HOST:PORT"),
            ("[zz]:1", "HOST:PORT"),
            ("[10.0.0.1]:1", "HOST:PORT"),
            ("a b:1", "HOST:PORT"),
            ("a@b:1", "HOST:PORT"),
            ("a\nb:1", "HOST:PORT"),
            ("a:1\n", "HOST:PORT"),
            ("300.1.1.1:1", "HOST:PORT"),
            ("$(id):1", "HOST:PORT"),
            ("https://a:8444", "without https://"),
            ("pullpass.pullpass.svc:8444", "cluster's DNS"),
            ("pullpass.pullpass.SVC:8444", "cluster's DNS"),
            ("a.b.svc.cluster.local:8444", "cluster's DNS"),
        ] {
            let read = parse_address(bad);
            assert!(read.is_err_and(|error| error.contains(problem)), "{bad:?}");
        }
        // The plug-in itself takes a name that its node knows.
        assert!(parse_host_port("pullpass.pullpass.svc:8444").is_ok());
    }

    #[test]
    fn reads_names_that_a_certificate_may_have() {
        for good in ["pullpass.pullpass.svc", "10.0.0.1", "fd00::1", "a"] {
            assert_eq!(parse_server_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "*", "*.a.com", "https://x", "a\nb", "a:1"] {
            assert!(parse_server_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_paths_that_no_shell_reads_otherwise() {
        for good in ["/etc/pullpass/ca.crt", "/a", "/etc/p-q_r/ca..crt"] {
            assert_eq!(parse_node_path(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "ca.crt",
            "/",
            "/etc/",
            "/etc//a",
            "/etc/../a",
            "/./a",
            "/etc/pull pass/a",
            "/etc/$(id)",
            "/etc/a;b",
            "/etc/a\nb",
            "/etc/'a",
            "/etc/@BIN_DIR@",
            "/etc/a|b",
        ] {
            assert!(parse_node_path(bad).is_err(), "{bad:?}");
        }
    }
}

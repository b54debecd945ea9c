//! The proxy of the environment, as Go's programs in the same cluster read it. Pure.

use aws_smithy_http_client::proxy::ProxyConfig;

use super::http::HttpClientError;

/// Finds the proxy of requests to clouds by asking `lookup` for each variable: `HTTPS_PROXY`, else `ALL_PROXY`, and the hosts that are asked
/// without it, `NO_PROXY`; each also in lower case.
///
/// <https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config>
///
/// # Errors
/// [`HttpClientError::BadProxy`]: whoever sets one means it, and a request that goes around it is lost, or worse.
pub fn find_proxy(lookup: impl Fn(&str) -> Option<String>) -> Result<ProxyConfig, HttpClientError> {
    let find = |upper: &'static str, lower| {
        let given = [upper, lower].into_iter().filter_map(&lookup);
        let mut given = given.filter(|value| !value.trim().is_empty());
        given.next().map(|value| (upper, value.trim().to_owned()))
    };
    let proxy = find("HTTPS_PROXY", "https_proxy").or_else(|| find("ALL_PROXY", "all_proxy"));
    let Some((variable, proxy)) = proxy else {
        return Ok(ProxyConfig::disabled());
    };
    // Neither repeats the value: it may hold a password.
    let bad = |problem| HttpClientError::BadProxy { variable, problem };
    let url = match proxy.split_once("://") {
        None => format!("http://{proxy}"),
        Some(("http" | "https", _)) => proxy,
        Some(_) => return Err(bad("is of another scheme than http and https")),
    };
    let is_url = url
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with(['/', ':', '@']));
    let config = ProxyConfig::https(url.as_str()).map_err(|_| bad("is no URL"))?;
    if !is_url {
        return Err(bad("names no host"));
    }
    let except = find("NO_PROXY", "no_proxy").map_or_else(String::new, |(_, list)| list);
    Ok(config.no_proxy(normalise(&except)))
}

/// The list in the form that the HTTP library reads: `*.example.com` is `.example.com`, and the usual port is no condition.
fn normalise(list: &str) -> String {
    let hosts = list.split([',', ' ']).map(str::trim);
    let hosts = hosts.filter(|host| !host.is_empty()).map(|host| {
        let host = host
            .strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(host);
        let is_name = host.matches(':').count() == 1;
        let without = host.strip_suffix(":443").filter(|_| is_name);
        without.unwrap_or(host).to_ascii_lowercase()
    });
    hosts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(given: &[(&str, &str)]) -> Result<ProxyConfig, HttpClientError> {
        find_proxy(|name| {
            let mut given = given.iter().filter(|(key, _)| *key == name);
            given.next().map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn reads_exceptions_as_go_does() {
        for (list, read) in [
            ("", ""),
            ("*", "*"),
            ("*.amazonaws.com", ".amazonaws.com"),
            (
                ".svc, 10.0.0.0/8,,Example.COM",
                ".svc,10.0.0.0/8,example.com",
            ),
            (
                "api.example:443,other.example:8443",
                "api.example,other.example:8443",
            ),
            ("::1,fd00::443,[fd00::1]", "::1,fd00::443,[fd00::1]"),
        ] {
            assert_eq!(normalise(list), read, "{list}");
        }
    }

    #[test]
    fn finds_a_proxy_and_takes_none_that_cannot_be_read() {
        for none in [
            vec![],
            vec![("HTTPS_PROXY", " ")],
            vec![("HTTP_PROXY", "http://p:1")],
        ] {
            assert!(find(&none).unwrap().is_disabled(), "{none:?}");
        }
        for proxy in [
            "http://p.example:3128",
            "p.example:3128",
            "https://u:canary@p.example",
            "10.0.0.1:80",
        ] {
            for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                let found = find(&[(name, proxy), ("NO_PROXY", "*.amazonaws.com")]).unwrap();
                let shown = format!("{found:?}");
                assert!(shown.contains("\".amazonaws.com\""), "{shown}");
            }
        }
        for proxy in [
            "socks5://p:1",
            "http://",
            "http://:3128",
            "ht tp://canary",
            "http://p:port canary",
        ] {
            let error = find(&[("https_proxy", proxy)]).unwrap_err().to_string();
            assert!(
                error.contains("HTTPS_PROXY") && !error.contains("canary"),
                "{error}"
            );
        }
    }
}

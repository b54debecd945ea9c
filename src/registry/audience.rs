//! Whom ServiceAccount tokens may be for: a cloud, and no API server, to which a token of that audience would be the account itself.

/// The longest audience.
const LONGEST: usize = 253;

/// What API servers take for their own audience where nobody chose one, besides URLs and names of their Service.
/// <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/> (`--api-audiences`)
const OF_API_SERVERS: [&str; 4] = ["api", "k3s", "kubernetes", "rke2"];

/// Whether it is an audience of Entra ID's: no API server takes a token for one of that form, whatever its own is.
pub(crate) fn is_entra_audience(audience: &str) -> bool {
    audience.len() <= LONGEST
        && audience.strip_prefix("api://").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| is_part(byte) || byte == b'/')
        })
}

/// Whether IAM may know it as the audience of an OIDC provider, and no API server takes it for its own by default.
///
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html>
pub(crate) fn is_sts_audience(audience: &str) -> bool {
    let is_name = audience.starts_with(|first: char| first.is_ascii_alphanumeric())
        && audience.bytes().all(is_part);
    let is_of_api_server = OF_API_SERVERS.contains(&audience)
        || ["kubernetes.default.svc", "kubernetes.svc."]
            .iter()
            .any(|start| audience.starts_with(start));
    is_entra_audience(audience) || (is_name && audience.len() <= LONGEST && !is_of_api_server)
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._~-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_audiences_of_clouds_from_those_of_api_servers() {
        for (audience, is_of_entra) in [
            ("sts.amazonaws.com", false),
            ("sts.amazonaws.com.cn", false),
            ("my-team", false),
            ("api://AzureADTokenExchange", true),
            ("api://AKSIdentityBinding", true),
            ("api://a/b", true),
        ] {
            assert!(is_sts_audience(audience), "{audience}");
            assert_eq!(is_entra_audience(audience), is_of_entra, "{audience}");
        }
        let long = format!("a{}", "b".repeat(LONGEST));
        for none in [
            "",
            "-",
            "a b",
            "a\nb",
            "a'b",
            "a/b",
            "api://",
            "api://a b",
            "https://kubernetes.default.svc",
            "https://oidc.example",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "kubernetes.svc.default",
            "kubernetes",
            "k3s",
            "rke2",
            "api",
            long.as_str(),
        ] {
            assert!(!is_sts_audience(none) && !is_entra_audience(none), "{none}");
        }
    }
}

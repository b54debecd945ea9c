//! AKS identity bindings: Entra ID's tokens come through a proxy of the cluster's control plane, which has an authority of its own.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;

use super::client::Client;
use crate::credential::MintError;
use crate::credential::http::{HttpClient, TRUST_HINT};
use crate::credential::one_line::one_line;
use crate::registry::split_endpoint;

const URL: &str = "AZURE_KUBERNETES_TOKEN_PROXY";
const SNI_NAME: &str = "AZURE_KUBERNETES_SNI_NAME";
const CA_FILE: &str = "AZURE_KUBERNETES_CA_FILE";
const CA_DATA: &str = "AZURE_KUBERNETES_CA_DATA";

/// Whom ServiceAccount tokens are for that the proxy takes.
///
/// <https://learn.microsoft.com/azure/aks/identity-bindings-concepts>
pub(super) const AUDIENCE: &str = "api://AKSIdentityBinding";

/// What AKS' webhook says of the proxy in the environment of a Pod that is annotated
/// `azure.workload.identity/use-identity-binding: "true"`.
///
/// <https://github.com/Azure/azure-sdk-for-go/issues/25056>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenProxyEnvironment {
    /// `AZURE_KUBERNETES_TOKEN_PROXY`, its URL.
    pub url: Option<String>,
    /// `AZURE_KUBERNETES_SNI_NAME`, the name that it is asked by and that its certificate has.
    pub sni_name: Option<String>,
    /// `AZURE_KUBERNETES_CA_FILE`, its authority, in a file that changes when that does.
    pub ca_file: Option<PathBuf>,
    /// `AZURE_KUBERNETES_CA_DATA`, its authority itself, PEM.
    pub ca_data: Option<String>,
}

impl TokenProxyEnvironment {
    /// Finds the settings by asking `find` for each variable that is set.
    pub(super) fn find(find: impl Fn(&'static str) -> Option<String>) -> Self {
        Self {
            url: find(URL),
            sni_name: find(SNI_NAME),
            ca_file: find(CA_FILE).map(PathBuf::from),
            ca_data: find(CA_DATA),
        }
    }
}

/// The proxy of the environment.
#[derive(Debug)]
pub(super) struct TokenProxy<'a> {
    /// Where it is: a name or an address.
    host: &'a str,
    /// What it is asked by, in the place of Entra ID's authority: `https://` and no `/` at the end.
    authority: String,
    ca: Ca<'a>,
}

#[derive(Debug)]
enum Ca<'a> {
    OfMachine,
    File(&'a Path),
    Data(&'a str),
}

impl<'a> TokenProxy<'a> {
    /// The proxy that the environment names, if it names one; held to what Azure's SDKs hold it to.
    ///
    /// <https://github.com/Azure/azure-sdk-for-go/blob/main/sdk/azidentity/internal/customtokenproxy/configuration.go>
    pub(super) fn find(environment: &'a TokenProxyEnvironment) -> Result<Option<Self>, MintError> {
        let TokenProxyEnvironment {
            url,
            sni_name,
            ca_file,
            ca_data,
        } = environment;
        let Some(url) = url else {
            let rest = [
                (SNI_NAME, sni_name.is_some()),
                (CA_FILE, ca_file.is_some()),
                (CA_DATA, ca_data.is_some()),
            ];
            let mut given = rest.iter().filter(|(_, is_given)| *is_given);
            return given.next().map_or(Ok(None), |(name, _)| {
                Err(none(&format!("{name} is set without {URL}")))
            });
        };
        let ca = match (ca_file, ca_data) {
            (Some(_), Some(_)) => {
                return Err(none(&format!("{CA_FILE} and {CA_DATA} are both set")));
            }
            (Some(file), None) => Ca::File(file),
            (None, Some(data)) => Ca::Data(data),
            (None, None) => Ca::OfMachine,
        };
        Self::at(url, sni_name.as_deref(), ca).map(Some)
    }

    /// The proxy at this URL.
    fn at(url: &'a str, sni_name: Option<&str>, ca: Ca<'a>) -> Result<Self, MintError> {
        // Neither user nor query, by the form of endpoints.
        let (host, port, path) = split_endpoint(url).ok_or_else(|| {
            let shown = one_line(url);
            none(&format!(
                "{URL} is {shown:?}, no URL of the form https://host:port/path"
            ))
        })?;
        let name = match sni_name {
            Some(name) if matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_))) => name,
            Some(_) => return Err(none(&format!("{SNI_NAME} is no host's name"))),
            None => host,
        };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self {
            host: host.trim_matches(['[', ']']),
            authority: format!("https://{name}{port}{}", path.trim_end_matches('/')),
            ca,
        })
    }

    /// What it is asked by in the place of Entra ID's authority.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The client that reaches it, for one mint: its authority is read each time, so that a new one is seen.
    pub(super) async fn connect(&self, client: &Client) -> Result<Client, MintError> {
        let (pem, name) = match self.ca {
            Ca::OfMachine => (None, ""),
            Ca::Data(data) => (Some(data.as_bytes().to_vec()), CA_DATA),
            Ca::File(file) => {
                let read = tokio::fs::read(file).await;
                let pem = read.map_err(|error| {
                    none(&format!(
                        "{CA_FILE} is {}, which cannot be read, {error}",
                        file.display()
                    ))
                })?;
                (Some(pem), CA_FILE)
            }
        };
        let http = HttpClient::pinned(pem.as_deref(), self.host);
        let http = http.map_err(|_| none(&format!("{name} holds no certificate in PEM form")))?;
        Ok(Client {
            http,
            ..client.clone()
        })
    }

    /// An error on the way to it, with what to do about it here.
    pub(super) fn explain(&self, error: MintError) -> MintError {
        let of_proxy = |host: String| format!("{host} ({URL}, at {})", self.host);
        match error {
            MintError::Timeout { host } => MintError::Timeout {
                host: of_proxy(host),
            },
            MintError::Network { host, detail } => MintError::Network {
                host: of_proxy(host),
                detail: detail.replace(TRUST_HINT, &format!("(check {CA_FILE} or {CA_DATA})")),
            },
            other => other,
        }
    }
}

fn none(problem: &str) -> MintError {
    MintError::NoIdentity {
        identity: "workload",
        problem: format!(
            "{problem}: check the webhook of AKS identity bindings, or take the variables AZURE_KUBERNETES_* out of pullpass' Pods"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(given: &[(&'static str, &str)]) -> TokenProxyEnvironment {
        TokenProxyEnvironment::find(|name| {
            let mut given = given.iter().filter(|(key, _)| *key == name);
            given.next().map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn finds_the_proxy_as_azure_s_sdks_do() {
        let none = environment(&[]);
        assert!(TokenProxy::find(&none).unwrap().is_none());
        for (given, host, authority) in [
            (
                vec![(URL, "https://api.hcp.example")],
                "api.hcp.example",
                "https://api.hcp.example",
            ),
            (
                vec![(URL, "https://10.0.0.1:6443/"), (SNI_NAME, "x.ests.aks")],
                "10.0.0.1",
                "https://x.ests.aks:6443",
            ),
            (
                vec![
                    (URL, "https://[fd00::1]:443/a/b/"),
                    (SNI_NAME, "x.ests.aks"),
                    (CA_DATA, "pem"),
                ],
                "fd00::1",
                "https://x.ests.aks:443/a/b",
            ),
        ] {
            let environment = environment(&given);
            let proxy = TokenProxy::find(&environment).unwrap().unwrap();
            assert_eq!((proxy.host, proxy.authority()), (host, authority));
        }
    }

    #[test]
    fn refuses_settings_that_contradict_each_other() {
        let url = (URL, "https://api.hcp.example");
        for (given, words) in [
            (
                vec![(SNI_NAME, "x.ests.aks")],
                "without AZURE_KUBERNETES_TOKEN_PROXY",
            ),
            (
                vec![(CA_FILE, "/ca.crt")],
                "AZURE_KUBERNETES_CA_FILE is set without",
            ),
            (
                vec![(CA_DATA, "pem")],
                "AZURE_KUBERNETES_CA_DATA is set without",
            ),
            (
                vec![url, (CA_FILE, "/ca.crt"), (CA_DATA, "pem")],
                "both set",
            ),
            (vec![url, (SNI_NAME, "10.0.0.1")], "no host's name"),
            (vec![url, (SNI_NAME, "a b")], "no host's name"),
            (vec![(URL, "http://api.hcp.example")], "no URL of the form"),
            (
                vec![(URL, "https://user@api.hcp.example")],
                "no URL of the form",
            ),
            (
                vec![(URL, "https://api.hcp.example?x=1")],
                "no URL of the form",
            ),
            (
                vec![(URL, "https://api.hcp.example/#x")],
                "no URL of the form",
            ),
            (vec![(URL, "api.hcp.example")], "no URL of the form"),
        ] {
            let environment = environment(&given);
            let error = TokenProxy::find(&environment).unwrap_err();
            assert_eq!(error.reason(), "NoIdentity");
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }
}

//! What is wrong with how a node's kubelet runs pullpass.

use std::io;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::parse_x509_certificate;

use super::finding::NodeFinding;
use super::judge::{PRINT, Providers};
use super::provider::NodeProvider;
use super::rights::FileRights;
use super::token::REQUIRED_KEYS;
use crate::broker::protocol::AUDIENCE;
use crate::command::check::ids;
use crate::command::credential_provider::arguments::{self, SUBCOMMAND};
use crate::command::credential_provider::parse_address;

/// What comes of it when the plug-in cannot use what it is given.
const ENDS: &str = "pullpass ends with that, for each image";

impl Providers<'_> {
    /// How pullpass is run: with which token and which arguments.
    pub(super) fn judge_ours(
        &self,
        load: impl Fn(&str) -> io::Result<(Vec<u8>, FileRights)>,
    ) -> Vec<NodeFinding> {
        let mut findings = Vec::new();
        for provider in self.ours() {
            findings.extend(self.judge_token(provider));
            // What cannot be read is named already.
            let Some(words) = &provider.args else {
                continue;
            };
            if words.first().is_none_or(|first| first != SUBCOMMAND) {
                let message = format!("the first one is not {SUBCOMMAND}: {ENDS}");
                findings.push(self.of_args(provider, ids::NODE_FIELD_INVALID, message));
                continue;
            }
            let args = match arguments::read(&words[1..], &provider.env) {
                Ok(args) => args,
                Err(error) => {
                    let id = if error.is_missing {
                        ids::NODE_FIELD_MISSING
                    } else {
                        ids::NODE_FIELD_INVALID
                    };
                    let message = format!("{}: {ENDS}", error.message);
                    findings.push(self.of_args(provider, id, message));
                    continue;
                }
            };
            if let Some(Err(problem)) = args.address.as_deref().map(parse_address) {
                let message = format!("--address: {problem}");
                findings.push(self.of_args(provider, ids::NODE_FIELD_INVALID, message));
            }
            let file = args.ca_file.unwrap_or_default();
            let file = file.to_string_lossy();
            findings.extend(self.judge_authority(provider, &file, load(&file)));
        }
        findings
    }

    fn of_args(&self, provider: &NodeProvider, id: &'static str, message: String) -> NodeFinding {
        self.finding(provider, "args", id, message, PRINT)
    }

    fn judge_token(&self, provider: &NodeProvider) -> Vec<NodeFinding> {
        let Some(token) = &provider.token else {
            let message = "is missing: pullpass is run without a Pod's token, and gives no login";
            let id = ids::NODE_TOKEN_MISSING;
            return vec![self.finding(provider, "tokenAttributes", id, message.to_owned(), PRINT)];
        };
        let mut findings = Vec::new();
        if token.audience != AUDIENCE && !token.audience.is_empty() {
            let field = "tokenAttributes.serviceAccountTokenAudience";
            let message = format!(
                "tokens for {} are none for pullpass, which refuses them",
                token.audience
            );
            let fix = format!("set it to {AUDIENCE}");
            findings.push(self.finding(provider, field, ids::NODE_AUDIENCE_OTHER, message, fix));
        }
        let id = ids::NODE_FIELD_INVALID;
        if !token.require_service_account {
            let field = "tokenAttributes.requireServiceAccount";
            let message = "with false pullpass is run for static Pods, too, which have no token, and refuses each";
            let fix = "set it to true";
            let finding = self.finding(provider, field, id, message.to_owned(), fix);
            findings.push(finding.warning());
        }
        if !token.required_keys.is_empty() {
            let field = format!("tokenAttributes.{REQUIRED_KEYS}");
            let message = format!(
                "the kubelet does not run pullpass for ServiceAccounts without the annotation {}, and does not say so",
                token.required_keys.join(", ")
            );
            let fix = "remove it: pullpass reads no annotation";
            let finding = self.finding(provider, &field, id, message, fix);
            findings.push(finding.warning());
        }
        findings
    }

    fn judge_authority(
        &self,
        provider: &NodeProvider,
        path: &str,
        file: io::Result<(Vec<u8>, FileRights)>,
    ) -> Vec<NodeFinding> {
        let fix = "copy ca.crt of the Secret pullpass-certificates there, with mode 0644";
        let of_file = |id, message| self.finding(provider, "args", id, message, fix);
        let (text, rights) = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return vec![NodeFinding::unreadable(path, &error)];
            }
            Err(error) => {
                let message = format!("--ca-file {path}: {error}: {ENDS}");
                return vec![of_file(ids::NODE_CA_MISSING, message)];
            }
        };
        let mut findings: Vec<_> = rights.judge().into_iter().collect();
        if let Some(problem) = authority_problem(&text) {
            let message = format!("--ca-file {path} {problem}: {ENDS}");
            findings.push(of_file(ids::NODE_CA_MALFORMED, message));
        } else if has_private_key(&text) {
            let message = format!(
                "--ca-file {path} holds a private key: who reads it on a node can sign for whom he likes"
            );
            let fix = "put ca.crt alone there, and have the authority made anew";
            findings.push(self.finding(provider, "args", ids::NODE_CA_MALFORMED, message, fix));
        }
        findings
    }
}

/// Why a file is no authority's certificate; `None`: it is.
fn authority_problem(text: &[u8]) -> Option<String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = match found {
        Err(error) => return Some(format!("is no PEM: {error}")),
        Ok(found) if found.is_empty() => return Some("holds no certificate".to_owned()),
        Ok(found) => found,
    };
    let mut store = RootCertStore::empty();
    let mut refused = found.iter().filter_map(|one| store.add(one.clone()).err());
    if let Some(refused) = refused.next() {
        return Some(format!("holds what is no certificate: {refused}"));
    }
    let signs_none = !found.iter().any(is_authority);
    signs_none.then(|| {
        "holds a server's certificate, not that of the authority that signed it".to_owned()
    })
}

/// Whether a certificate may vouch for one: it is an authority's, or its own.
fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else {
        return false;
    };
    certificate.is_ca() || certificate.subject() == certificate.issuer()
}

/// Whether there is a private key of any form, even among what is no PEM.
fn has_private_key(text: &[u8]) -> bool {
    const KEY: &[u8] = b"PRIVATE KEY-----";
    text.windows(KEY.len()).any(|part| part == KEY)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    #[test]
    fn takes_certificates_that_can_vouch_for_the_broker() {
        let parameters = |is_ca| {
            let mut parameters =
                CertificateParams::new(["pullpass.pullpass.svc".to_owned()]).unwrap();
            parameters.is_ca = is_ca;
            parameters
        };
        let mut authority = parameters(IsCa::Ca(BasicConstraints::Unconstrained));
        let names = &mut authority.distinguished_name;
        names.push(rcgen::DnType::CommonName, "authority");
        let key = || KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(authority, key()).unwrap();
        let leaf = parameters(IsCa::NoCa)
            .signed_by(&key(), &authority)
            .unwrap();
        let own = parameters(IsCa::NoCa).self_signed(&key()).unwrap();
        let (authority, leaf, own) = (authority.pem(), leaf.pem(), own.pem());
        for (text, problem) in [
            (authority.clone(), None),
            (own, None),
            (format!("{leaf}{authority}"), None),
            (leaf, Some("a server's certificate")),
            (String::new(), Some("no certificate")),
            ("<the certificate>".to_owned(), Some("no certificate")),
        ] {
            let found = authority_problem(text.as_bytes());
            let is_so = found
                .as_deref()
                .is_some_and(|found| found.contains(problem.unwrap_or("-")));
            assert!(
                is_so || found.is_none() && problem.is_none(),
                "{found:?} {text}"
            );
        }
        let with_key = authority + &key().serialize_pem();
        assert!(has_private_key(with_key.as_bytes()) && !has_private_key(b"PRIVATE"));
    }
}

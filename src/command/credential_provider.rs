//! `pullpass credential-provider`: the kubelet's plug-in. The kubelet runs it for each image that is to be pulled, and waits for it: so it
//! does little before it asks. Its subcommand prints how kubelets are set up to run it.

pub(super) mod config;
pub(super) mod platform;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use hyper::body::Bytes;

use crate::broker::client::{self, BrokerAddress};
use crate::broker::protocol::{CredentialRequest, REQUEST_MAX};
use crate::credential::one_line::shorten;

/// Ask pullpass for the login of an image, for the kubelet
///
/// This is a credential provider of the kubelet: it reads a CredentialProviderRequest from stdin, hands it to the broker of pullpass, and
/// prints the CredentialProviderResponse. What goes wrong is one line on stderr, which the kubelet logs. It keeps nothing on disk.
// <https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/>
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:\n  \
    pullpass credential-provider config -f registries.yaml --address 10.96.0.80:8444\n  \
    pullpass credential-provider --address 10.96.0.80:8444 --server-name pullpass.pullpass.svc --ca-file /etc/pullpass/ca.crt < request.json")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<ProviderCommand>,
    /// Where the broker listens: the address of its Service, or of this node and its NodePort
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "PULLPASS_BROKER_ADDRESS",
        required = true
    )]
    address: Option<String>,
    /// The name that the broker's certificate is for
    #[arg(
        long,
        value_name = "NAME",
        env = "PULLPASS_BROKER_SERVER_NAME",
        default_value = "pullpass.pullpass.svc"
    )]
    server_name: String,
    /// The certificate, PEM, of the CA that signs the broker's: `ca.crt` of the Secret pullpass-certificates
    #[arg(
        long,
        value_name = "FILE",
        env = "PULLPASS_BROKER_CA_FILE",
        required = true
    )]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ProviderCommand {
    Config(config::Args),
}

/// Runs the plug-in. The kubelet wants an exit code other than 0 where there is no answer.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(ProviderCommand::Config(args)) = &args.command {
        return config::run(args);
    }
    match ask(args) {
        Ok(answer) => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&answer)?;
            stdout.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            super::print_error(format!(
                "pullpass: {}\n",
                shorten(&error.to_string(), usize::MAX)
            ));
            Ok(super::FAILED)
        }
    }
}

/// Why the plug-in has no answer.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("stdin cannot be read: {0}")]
    Stdin(std::io::Error),
    #[error("stdin holds more than {REQUEST_MAX} bytes: it is no CredentialProviderRequest")]
    TooLong,
    #[error("stdin: {0}")]
    Request(#[from] crate::broker::protocol::ProtocolError),
    #[error("--ca-file {}: {error}", file.display())]
    CaFile {
        file: PathBuf,
        error: std::io::Error,
    },
    #[error("no runtime: {0}")]
    Runtime(std::io::Error),
    #[error("{0}")]
    Ask(#[from] client::AskError),
}

fn ask(args: &Args) -> Result<Bytes, PluginError> {
    let request = read_request()?;
    // The command line wants both where no subcommand is given.
    let ca_file = args.ca_file.clone().unwrap_or_default();
    let authorities = std::fs::read(&ca_file).map_err(|error| PluginError::CaFile {
        file: ca_file.clone(),
        error,
    })?;
    let broker = BrokerAddress {
        address: args.address.clone().unwrap_or_default(),
        server_name: args.server_name.clone(),
        authorities,
    };
    let answer = super::wait_for(client::ask(&broker, request));
    Ok(answer.map_err(PluginError::Runtime)??)
}

/// The request as it came, once it has all that the broker wants.
fn read_request() -> Result<Bytes, PluginError> {
    let mut request = Vec::with_capacity(8 * 1024);
    let mut stdin = std::io::stdin().lock().take(REQUEST_MAX as u64 + 1);
    stdin
        .read_to_end(&mut request)
        .map_err(PluginError::Stdin)?;
    if request.len() > REQUEST_MAX {
        return Err(PluginError::TooLong);
    }
    CredentialRequest::parse(&request)?;
    Ok(request.into())
}

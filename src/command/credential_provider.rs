//! `pullpass credential-provider`: the kubelet's plug-in. The kubelet runs it for each image that is to be pulled, and waits for it: so it
//! does little before it asks, and ends in two seconds whatever it waits for. Its subcommand prints how kubelets are set up to run it.

pub(super) mod arguments;
pub(super) mod config;
pub(super) mod platform;
mod said;
mod values;

pub(super) use arguments::Args;
pub(super) use values::parse_address;

use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Instant;

use hyper::body::Bytes;
use secrecy::SecretString;

use crate::broker::client::{self, BrokerAddress, TIMEOUT};
use crate::broker::protocol::{CredentialRequest, REQUEST_MAX};
use arguments::{ProviderCommand, SUBCOMMAND, describe_usage};
use said::one_line;

/// The longest file of an authority, in bytes.
const CA_FILE_MAX: usize = 1 << 20;

/// What the plug-in waits for.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Stdin,
    CaFile,
    Answer,
    Stdout,
}

/// What comes from the thread that asks.
enum Progress {
    /// It begins to wait for this.
    Waits(Wait),
    /// It read the request: nothing that is printed repeats its token.
    HasToken(SecretString),
    Ended(Result<(), PluginError>),
}

/// Why the plug-in has no answer.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("stdin cannot be read: {0}")]
    Stdin(io::Error),
    #[error("stdin holds more than {REQUEST_MAX} bytes: it is no CredentialProviderRequest")]
    TooLong,
    #[error("stdin: {0}")]
    Request(#[from] crate::broker::protocol::ProtocolError),
    #[error("--ca-file {}: {error}", file.display())]
    CaFile { file: PathBuf, error: io::Error },
    #[error("no runtime: {0}")]
    Runtime(io::Error),
    #[error("{0}")]
    Ask(#[from] client::AskError),
    #[error("stdout: {0}")]
    Stdout(io::Error),
    #[error("it ended before its time: look for what it printed above")]
    Broken,
}

/// Whether arguments are the kubelet's, which logs one line of what is wrong with them: not those of `config`, which people type.
pub(super) fn is_run_by_kubelet(arguments: &[OsString]) -> bool {
    let word = |at: usize| arguments.get(at).and_then(|word| word.to_str());
    word(1) == Some(SUBCOMMAND) && !matches!(word(2), Some("config" | "help"))
}

/// Says in one line what is wrong with the plug-in's arguments.
pub(super) fn refuse(error: &clap::Error) -> ExitCode {
    say(&describe_usage(error), None);
    ExitCode::from(super::USAGE)
}

/// Runs the plug-in. The kubelet wants an exit code other than 0 where there is no answer.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(ProviderCommand::Config(args)) = &args.command {
        return config::run(args);
    }
    let since = Instant::now();
    // The command line wants both where no subcommand is given.
    let address = args.address.clone().unwrap_or_default();
    let ca_file = args.ca_file.clone().unwrap_or_default();
    let (progress, reports) = mpsc::channel();
    let worker = std::thread::Builder::new().spawn(move || {
        let ended = ask(args, &progress);
        // Nobody listens once the time is over.
        drop(progress.send(Progress::Ended(ended)));
    });
    if let Err(error) = worker {
        say(&PluginError::Runtime(error).to_string(), None);
        return Ok(super::FAILED);
    }
    let (mut waits, mut token) = (Wait::Stdin, None);
    let problem = loop {
        match reports.recv_timeout(TIMEOUT.saturating_sub(since.elapsed())) {
            Ok(Progress::Waits(next)) => waits = next,
            Ok(Progress::HasToken(read)) => token = Some(read),
            Ok(Progress::Ended(Ok(()))) => return Ok(ExitCode::SUCCESS),
            Ok(Progress::Ended(Err(error))) => break error.to_string(),
            Err(RecvTimeoutError::Disconnected) => break PluginError::Broken.to_string(),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = TIMEOUT.as_secs();
                break match waits {
                    Wait::Stdin => format!("stdin did not end in {seconds} s"),
                    Wait::CaFile => {
                        format!("--ca-file {}: not read in {seconds} s", ca_file.display())
                    }
                    Wait::Answer => format!("{address} gave no answer in {seconds} s"),
                    Wait::Stdout => format!("nobody read the answer in {seconds} s"),
                };
            }
        }
    };
    say(&problem, token.as_ref());
    Ok(super::FAILED)
}

/// Prints one line, without the token.
fn say(problem: &str, token: Option<&SecretString>) {
    super::print_error(format!("pullpass: {}\n", one_line(problem, token)));
}

/// Reads the request, asks, and prints the answer.
fn ask(args: Args, progress: &Sender<Progress>) -> Result<(), PluginError> {
    let waits = |next| drop(progress.send(Progress::Waits(next)));
    let request = read_request()?;
    let read = CredentialRequest::parse(&request)?;
    drop(progress.send(Progress::HasToken(read.service_account_token)));
    waits(Wait::CaFile);
    let file = args.ca_file.unwrap_or_default();
    let authorities = std::fs::File::open(&file).and_then(|open| read_some(open, CA_FILE_MAX));
    let authorities = match authorities {
        Ok(Some(text)) => text,
        Ok(None) => {
            let message = format!("it holds more than {CA_FILE_MAX} bytes");
            let error = io::Error::new(io::ErrorKind::FileTooLarge, message);
            return Err(PluginError::CaFile { file, error });
        }
        Err(error) => return Err(PluginError::CaFile { file, error }),
    };
    waits(Wait::Answer);
    let broker = BrokerAddress {
        address: args.address.unwrap_or_default(),
        server_name: args.server_name,
        authorities,
    };
    let answer = super::wait_for(client::ask(&broker, request)).map_err(PluginError::Runtime)??;
    waits(Wait::Stdout);
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&answer).and_then(|()| stdout.flush());
    written.map_err(PluginError::Stdout)
}

/// The request as it came.
fn read_request() -> Result<Bytes, PluginError> {
    let request = read_some(io::stdin().lock(), REQUEST_MAX).map_err(PluginError::Stdin)?;
    Ok(request.ok_or(PluginError::TooLong)?.into())
}

/// All of it, or `None`: it is longer than this.
fn read_some(source: impl Read, longest: usize) -> io::Result<Option<Vec<u8>>> {
    let mut read = Vec::with_capacity(8 * 1024);
    source.take(longest as u64 + 1).read_to_end(&mut read)?;
    Ok((read.len() <= longest).then_some(read))
}

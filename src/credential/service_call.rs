//! One request to a cloud, a login server, or a service of the node, for the messages about its failure.

use std::time::Duration;

use super::answers::{CloudAnswer, Service, Signer};
use super::http::{FetchError, Reply};
use super::outgoing::Sent;
use super::refusal::Refusal;
use super::{MintError, answer_words, retry_after};

/// Whom one asked, and as whom.
#[derive(Clone)]
pub(crate) struct ServiceCall<'a> {
    /// Who answers.
    pub(crate) service: Service,
    /// The host that was asked.
    pub(crate) host: String,
    /// Who asked.
    pub(crate) principal: &'a str,
    /// How the caller proves who it is.
    pub(crate) signer: Option<Signer>,
    /// What is denied where something is denied: an IAM action, a role of Azure.
    pub(crate) permission: &'static str,
    /// What was sent.
    pub(crate) sent: Sent<'a>,
}

/// What counts of an answer besides its words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerHead {
    /// Its HTTP status.
    pub(crate) status: u16,
    /// How long it asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl AnswerHead {
    /// Those of an answer.
    pub(crate) fn of(reply: &Reply) -> Self {
        Self {
            status: reply.status,
            retry_after: reply.retry_after,
        }
    }
}

impl ServiceCall<'_> {
    /// What an answer means that is not what was asked for.
    pub(crate) fn explain(&self, reply: &Reply) -> MintError {
        let body = answer_words::read_body(&reply.body);
        self.explain_as(AnswerHead::of(reply), &body.code, &body.text)
    }

    /// The same, of this code and these words.
    pub(crate) fn explain_as(&self, head: AnswerHead, code: &str, text: &str) -> MintError {
        let AnswerHead {
            status,
            retry_after: asked,
        } = head;
        // A code that repeats a secret is no code.
        let (code, words) = (self.words(code), self.words(text));
        let answer = CloudAnswer {
            from: self.service,
            status,
            code: &code,
            action: self.permission,
            signer: self.signer,
            text,
        };
        let (host, principal) = (self.host.clone(), self.principal.to_owned());
        let refusal = Refusal {
            permission: self.permission,
            retry_after: asked.map(|asked| asked.min(retry_after::LONGEST)),
            ..Refusal::of(&answer, host, principal, words)
        };
        if refusal.is_recognized || !code.is_empty() {
            MintError::Refused(Box::new(refusal))
        } else if (300..400).contains(&status) {
            self.bad(format!("HTTP {status}: redirects are never followed"))
        } else {
            let problem = format!("HTTP {status}, an unrecognized answer");
            self.bad_with_words(problem, text)
        }
    }

    /// Why there was no answer.
    pub(crate) fn explain_silence(&self, error: FetchError) -> MintError {
        let host = self.host.clone();
        match error {
            FetchError::Timeout => MintError::Timeout { host },
            FetchError::Network(detail) => MintError::Network { host, detail },
        }
    }

    /// An answer that cannot be used.
    pub(crate) fn bad(&self, problem: String) -> MintError {
        MintError::BadAnswer {
            host: self.host.clone(),
            problem,
        }
    }

    /// The same, with what it says, if it says something.
    pub(crate) fn bad_with_words(&self, problem: String, text: &str) -> MintError {
        let words = self.words(text);
        self.bad(if words.is_empty() {
            problem
        } else {
            format!("{problem} (it said: {words})")
        })
    }

    /// The other side's own words, unless they repeat a secret.
    fn words(&self, text: &str) -> String {
        self.sent.show(text)
    }
}

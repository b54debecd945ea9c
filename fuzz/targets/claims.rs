//! Tokens' claims, which are read and not verified.

use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::Value;

use super::{Target, now};
use crate::cluster::tokens;
use crate::credential::acr::token_expiry::find_expiry;
use crate::credential::jwt;

pub(super) const TARGET: Target = Target {
    name: "claims",
    run,
    seeds: &[
        // {"aud":["a","b"],"exp":1800003600,"sub":"s","iss":"i"}
        "h.eyJhdWQiOlsiYSIsImIiXSwiZXhwIjoxODAwMDAzNjAwLCJzdWIiOiJzIiwiaXNzIjoiaSJ9.s",
        // {"aud":"a","kubernetes.io":{"serviceaccount":{"uid":"u"}}}
        "h.eyJhdWQiOiJhIiwia3ViZXJuZXRlcy5pbyI6eyJzZXJ2aWNlYWNjb3VudCI6eyJ1aWQiOiJ1In19fQ.s",
        r#"{"exp":1800003600.5,"aud":["x"]}"#,
        r#"{"exp":1e308,"kubernetes.io":{"serviceaccount":{"uid":"u"}}}"#,
        r#"{"exp":-1}"#,
    ],
};

fn run(data: &[u8]) {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // What is no token is taken for the claims of one, so that they need not be guessed through base64.
    let token = if text.starts_with('{') {
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(text))
    } else {
        text.to_owned()
    };
    let length = token.len();
    let token = SecretString::from(token);
    let claims: Option<Value> = jwt::claims(&token);
    let audiences = jwt::audiences(&token);
    if let Some(claims) = claims {
        let list = claims["aud"].as_array().map_or(1, Vec::len);
        assert!(audiences.len() <= list, "{claims}");
    }
    if let Some(owner) = tokens::owner(&token) {
        assert!(owner.len() <= length);
    }
    match find_expiry(&token, now()) {
        Ok(end) => {
            let life = end.duration_since(now());
            assert!(life > -SignedDuration::from_secs(1) && life <= SignedDuration::from_hours(24));
        }
        // Nothing of the token is repeated.
        Err(problem) => assert!(format!("{problem:?}").len() < 200, "{problem:?}"),
    }
}
